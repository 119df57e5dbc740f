-- The first event from an id on. KEYS: stream. ARGV: id. Answers the server's time, and the event's id and time or nothing.
local clock = redis.call('TIME')
local time = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local event = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 1)[1]
if not event then
  return {time}
end
return {time, event[1], event[2][1]}
