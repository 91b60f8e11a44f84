-- Hands back what a consumer was given in claims whose answers it did not get.
-- ARGV: consumer, number of its last claim, ms since the first of those claims began, ms to remember,
--   then flow and sid of each job that it knows of
-- Gives how many were handed back
local MOST = 20000
local consumer, within = ARGV[1], tonumber(ARGV[3])
-- From here on a claim that is still under way finds that it comes too late. First a write that is allowed when memory
-- is full: then all are.
call('DEL', base .. 'fence:' .. consumer)
call('SET', base .. 'fence:' .. consumer, ARGV[2], 'PX', ARGV[4])
local known, handed, ids = {}, 0, {}
for a = 5, #ARGV, 2 do known[ARGV[a] .. ' ' .. ARGV[a + 1]] = true end
for _, flow in ipairs(call('SMEMBERS', base .. 'flows')) do
  local pending = redis.pcall('XPENDING', base .. 'flow:' .. flow, GROUP, '-', '+', MOST, consumer)
  if pending.err then pending = {} end
  for _, one in ipairs(pending) do
    -- What it was given earlier it knew of: that it lets go of without a word is left to the lease, and counts.
    if one[3] <= within and not known[flow .. ' ' .. one[1]] then
      ids[#ids + 1] = hand_back(flow, one[1], one[4])
      handed = handed + 1
    end
  end
end
if handed > 0 then wake() end
tell(ids, now_ms())
return handed
