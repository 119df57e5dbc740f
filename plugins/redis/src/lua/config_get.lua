-- Reads a value and gives it its full time to live again. KEYS: the value. Answers the value with its time to live behind it.
local value = redis.call('GET', KEYS[1])
if value then
  local ttl = tonumber(string.sub(value, -16), 10)
  if ttl > 0 then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
  end
end
return value
