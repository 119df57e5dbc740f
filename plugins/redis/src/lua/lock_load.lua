-- Writes the locks of one shard and raises its counter.
-- KEYS: the counter, the locks. ARGV: the greatest token, then for each lock its content and time to live.
local greatest = redis.call('GET', KEYS[1]) or '0'
-- As text, because Lua's numbers are exact up to 2^53 only: the longer number is the greater one.
if #greatest < #ARGV[1] or (#greatest == #ARGV[1] and greatest < ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], ARGV[2 * i - 2], 'PX', ARGV[2 * i - 1])
end
return 1
