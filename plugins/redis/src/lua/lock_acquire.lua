-- Takes a lock that nobody has. A lock is its token, `;` and what the holder said; tokens come from a counter that stays.
-- KEYS: the lock, the counter. ARGV: time to live, holder.
-- Answers the token as text, or how long the holder has the lock at most.
local left = redis.call('PTTL', KEYS[1])
if left ~= -2 then
  return left
end
redis.call('INCR', KEYS[2])
-- As text: Lua's numbers are exact up to 2^53 only.
local token = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[1], token .. ';' .. ARGV[2], 'PX', ARGV[1])
return token
