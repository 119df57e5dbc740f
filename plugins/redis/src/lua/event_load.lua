-- Writes events with their sequences and times. KEYS: stream, head, names.
-- ARGV: the stream's name, its last sequence, then for each event sequence, time and payload, by growing sequence.
-- Numbers stay text, because Lua's are exact up to 2^53 only: the longer number is the greater one.
local stream = KEYS[1]
local function less(a, b)
  return #a < #b or (#a == #b and a < b)
end
local last, time, largest = '0', '0', 0
local head = redis.call('GET', KEYS[2])
if head then
  last, time, largest = string.match(head, '^(%d+);(%d+);(%d+)$')
end
local top = last

-- Redis adds behind the last entry only. Events that belong before it and are not there make the stream be written anew.
local added = {}
for i = 3, #ARGV, 3 do
  local sequence = ARGV[i]
  if less(top, sequence) or #redis.call('XRANGE', stream, '0-' .. sequence, '0-' .. sequence) == 0 then
    added[#added + 1] = {'0-' .. sequence, {ARGV[i + 1], ARGV[i + 2]}, sequence}
  end
end
if #added > 0 and not less(top, added[1][3]) then
  local old, merged, at = redis.call('XRANGE', stream, '-', '+'), {}, 1
  for _, entry in ipairs(old) do
    local sequence = string.sub(entry[1], 3)
    while added[at] and less(added[at][3], sequence) do
      merged[#merged + 1] = added[at]
      at = at + 1
    end
    merged[#merged + 1] = entry
  end
  while added[at] do
    merged[#merged + 1] = added[at]
    at = at + 1
  end
  redis.call('DEL', stream)
  added = merged
end
for _, entry in ipairs(added) do
  redis.call('XADD', stream, entry[1], entry[2][1], entry[2][2])
  local sequence = string.sub(entry[1], 3)
  largest = math.max(largest, #entry[2][2])
  if less(last, sequence) then
    last = sequence
  end
  if less(time, entry[2][1]) then
    time = entry[2][1]
  end
end
if less(last, ARGV[2]) then
  last = ARGV[2]
end
if last == '0' then
  return 0
end
if redis.call('EXISTS', stream) == 0 then
  -- A stream that holds nothing and still knows its last sequence.
  redis.call('XADD', stream, '0-' .. last, '0', '')
  redis.call('XTRIM', stream, 'MAXLEN', 0)
else
  redis.call('XSETID', stream, '0-' .. last)
end
redis.call('SET', KEYS[2], last .. ';' .. time .. ';' .. largest)
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
