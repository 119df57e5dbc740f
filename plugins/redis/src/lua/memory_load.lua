-- KEYS: also the flush flag, its names, its due.
-- ARGV: name, time to live, time that the flush flag has left, offset, tokens of the messages, messages.
open(ARGV[1])
local offset = tonumber(ARGV[4])
if offset < count then
  tokens = offset == 0 and 0 or tokens - cost(offset + 1, count)
  redis.call('LTRIM', memory, 0, offset)
  count = offset
end
push(6, ARGV[5])
if ARGV[3] == '' then
  redis.call('DEL', KEYS[4])
  redis.call('ZREM', KEYS[5], ARGV[1])
  redis.call('ZREM', KEYS[6], ARGV[1])
else
  redis.call('SET', KEYS[4], '', 'PX', ARGV[3])
  redis.call('ZADD', KEYS[5], 0, ARGV[1])
  redis.call('ZADD', KEYS[6], string.format('%.0f', now() + ARGV[3]), ARGV[1])
end
if ARGV[2] == '' then
  redis.call('PERSIST', memory)
end
return close(ARGV[1], '', '', ARGV[2])
