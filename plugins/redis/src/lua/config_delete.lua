-- Removes a value and its name. KEYS: names, due, the value. ARGV: its id. Answers 1 when it was there.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[3])
