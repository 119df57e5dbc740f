-- Writes while the version is the expected one. A value ends with the 8 bytes of its version.
-- KEYS: the value. ARGV: the expected version, value and new version, time to live ('' for none).
-- Answers 1 when it was written.
if redis.call('GETRANGE', KEYS[1], -8, -1) ~= ARGV[1] then
  return 0
end
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
