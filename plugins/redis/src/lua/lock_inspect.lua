-- Who has a lock. KEYS: the lock. Answers the lock, or nil, and the time that it has left.
return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
