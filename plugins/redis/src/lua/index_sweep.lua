-- Removes the names of what has expired. `due` holds for each name a time before which it cannot have expired; where the time
-- to live was made longer since, it is corrected here.
-- KEYS: names, due, then what has these names. ARGV: the names. Answers how many were removed.
local removed = 0
for i = 1, #ARGV do
  local left = redis.call('PTTL', KEYS[i + 2])
  if left > 0 then
    redis.call('ZADD', KEYS[2], string.format('%.0f', now() + left), ARGV[i])
  elseif left == -2 then
    redis.call('ZREM', KEYS[2], ARGV[i])
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
  elseif left == -1 then
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
return removed
