-- Sets a flush flag that is not set. KEYS: the flag, its names, its due. ARGV: name, time to live. Answers 1 when it was set.
if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], string.format('%.0f', now() + ARGV[2]), ARGV[1])
return 1
