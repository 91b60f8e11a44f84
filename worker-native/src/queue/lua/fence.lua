-- Stops claims of a consumer that are still on their way: from here on they come too late.
-- ARGV: consumer, number of its last claim, ms to remember it
-- Gives now
local fence = base .. 'fence:' .. ARGV[1]
-- First a write that is allowed when memory is full: then all are.
call('DEL', fence)
call('SET', fence, ARGV[2], 'PX', ARGV[3])
return now_ms()
