-- Gives the lease with a token a new time to live.
-- KEYS: the lock. ARGV: token, time to live. Answers 0 when the lease was lost.
local lock = redis.call('GET', KEYS[1])
if not lock or string.match(lock, '^%d+') ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
