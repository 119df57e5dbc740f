-- Messages from one place to another, and behind them the header. KEYS: the memory. ARGV: the first place, the last one.
local header = redis.call('LINDEX', KEYS[1], 0)
if not header then
  return {}
end
local page = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])
page[#page + 1] = header
return page
