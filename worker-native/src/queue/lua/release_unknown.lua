-- Hands back what a consumer was given without its knowledge since a moment.
-- ARGV: consumer, the moment, then flow and sid of each job that it knows of
-- Gives how many were handed back
local MOST = 20000
local consumer, now = ARGV[1], now_ms()
local longest = now - tonumber(ARGV[2])
local known, handed, ids = {}, 0, {}
for a = 3, #ARGV, 2 do known[ARGV[a] .. ' ' .. ARGV[a + 1]] = true end
for _, flow in ipairs(call('SMEMBERS', base .. 'flows')) do
  local pending = redis.pcall('XPENDING', base .. 'flow:' .. flow, GROUP, '-', '+', MOST, consumer)
  if pending.err then pending = {} end
  for _, one in ipairs(pending) do
    -- What it was given earlier it knew of: that it lets go of without a word is left to the lease, and counts.
    if one[3] <= longest and not known[flow .. ' ' .. one[1]] then
      ids[#ids + 1] = hand_back(flow, one[1], one[4])
      handed = handed + 1
    end
  end
end
if handed > 0 then wake() end
tell(ids, now)
return handed
