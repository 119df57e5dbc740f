-- Gives a memory a time to live ('' for none). KEYS: the memory, due. ARGV: name, time to live. Answers 0 when it is missing.
if ARGV[2] == '' then
  redis.call('PERSIST', KEYS[1])
  return redis.call('EXISTS', KEYS[1])
end
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now() + ARGV[2]), ARGV[1])
return 1
