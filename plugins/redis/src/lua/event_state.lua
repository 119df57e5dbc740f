-- What a stream holds. KEYS: stream, head. Answers the number of events, the id of the first or nil, and the head or nil.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
-- Never nil, which would end a Lua list.
return {redis.call('XLEN', KEYS[1]), first and first[1] or false, redis.call('GET', KEYS[2])}
