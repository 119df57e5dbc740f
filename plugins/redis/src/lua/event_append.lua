-- Appends events. An entry's id is 0-<sequence>, its only field the time, whose value is the payload. The head holds the last
-- sequence, the last time, and the size of the largest payload, `;` between them: it stays when all events are trimmed, and is
-- read without touching a payload.
-- KEYS: stream, head, names. ARGV: length of the plugin's part of the stream's key, the stream's name, payloads.
-- Answers the last sequence as text.
local clock = redis.call('TIME')
local time = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local head = redis.call('GET', KEYS[2])
local largest = 0
if head then
  local last, size = string.match(head, '^%d+;(%d+);(%d+)$')
  if tonumber(last) > tonumber(time) then
    time = last
  end
  largest = tonumber(size)
else
  redis.call('ZADD', KEYS[3], 0, ARGV[2])
end
local id
for i = 3, #ARGV do
  id = redis.call('XADD', KEYS[1], '0-*', time, ARGV[i])
  largest = math.max(largest, #ARGV[i])
end
local sequence = string.sub(id, 3)
redis.call('SET', KEYS[2], sequence .. ';' .. time .. ';' .. largest)
-- Whoever may not publish has appended all the same.
redis.pcall('PUBLISH', string.sub(KEYS[1], 1, #KEYS[1] - ARGV[1]) .. 'changes', 'events/' .. ARGV[2])
return sequence
