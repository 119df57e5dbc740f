-- Clears a flush flag. KEYS: the flag, its names, its due. ARGV: name. Answers 1 when it was set.
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1])
