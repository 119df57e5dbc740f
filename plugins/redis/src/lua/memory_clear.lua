-- Removes a memory and its flush flag. KEYS: the memory, names, due, the flush flag, its names, its due. ARGV: name.
for _, index in ipairs({2, 3, 5, 6}) do
  redis.call('ZREM', KEYS[index], ARGV[1])
end
redis.call('DEL', KEYS[4])
return redis.call('DEL', KEYS[1])
