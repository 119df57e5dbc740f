-- Takes a time to live away. PERSIST alone does not tell a missing key from one that has none. KEYS: the value.
-- Answers 0 when it is missing.
redis.call('PERSIST', KEYS[1])
return redis.call('EXISTS', KEYS[1])
