-- The server's time in milliseconds; it stands still while a script runs.
local function now()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end
