-- Adds to a decimal integer. A value ends with the 8 bytes of its version.
-- KEYS: the value. ARGV: what to add, the new version, the time to live of a new key ('' for none).
-- Answers the sum as text, 0 when the value is no integer of 64 bits, or the value in a list when the sum is none.
local raw = redis.call('GETRANGE', KEYS[1], 0, 28)
if raw == '' then
  if ARGV[3] == '' then
    redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
  else
    redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
  end
  return ARGV[1]
end
local text = string.sub(raw, 1, -9)
if #raw > 28 or not (text == '0' or string.find(text, '^%-?[1-9]%d*$')) then
  return 0
end
local sum
if #text <= 15 and #ARGV[1] <= 15 then
  -- Exact, because floats hold every integer up to 2^53.
  sum = string.format('%.0f', tonumber(text) + tonumber(ARGV[1]))
else
  -- Redis itself adds integers of 64 bits, and says when it cannot; nobody sees the number that lies there meanwhile.
  redis.call('SET', KEYS[1], text, 'KEEPTTL')
  local answer = redis.pcall('INCRBY', KEYS[1], ARGV[1])
  if type(answer) == 'table' then
    redis.call('SET', KEYS[1], raw, 'KEEPTTL')
    if string.find(answer.err, 'overflow', 1, true) then
      return {text}
    end
    return 0
  end
  sum = redis.call('GET', KEYS[1])
end
redis.call('SET', KEYS[1], sum .. ARGV[2], 'KEEPTTL')
return sum
