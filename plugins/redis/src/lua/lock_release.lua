-- Gives a lock back and tells those who wait for it.
-- KEYS: the lock. ARGV: token, length of the plugin's part of the key, topic. Answers 0 when the lease was lost.
local lock = redis.call('GET', KEYS[1])
if not lock or string.match(lock, '^%d+') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
-- Whoever may not publish has given it back all the same.
redis.pcall('PUBLISH', string.sub(KEYS[1], 1, #KEYS[1] - ARGV[2]) .. 'changes', ARGV[3])
return 1
