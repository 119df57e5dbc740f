-- Messages from one place to another, and behind them the header. KEYS: the memory. ARGV: the first place, the last one, and how
-- many bytes may be answered. Answers how many there would be when it is more.
local header = redis.call('LINDEX', KEYS[1], 0)
if not header then
  return {}
end
local page = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])
local size = 0
for i = 1, #page do
  size = size + #page[i] + 64
end
if size > tonumber(ARGV[3]) then
  return size
end
page[#page + 1] = header
return page
