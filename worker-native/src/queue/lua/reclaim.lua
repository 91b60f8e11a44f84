-- Takes over jobs whose consumer has not renewed them within the lease.
-- ARGV: consumer, number of this claim, lease in ms, limit
-- Gives now, {{flow, claims before this one, entries} ...}, number of entries that are gone
local consumer, lease, limit = ARGV[1], ARGV[3], tonumber(ARGV[4])
local now = now_ms()
if is_late(consumer, ARGV[2]) then return {now, {}, 0} end
local taken, ids, gone = {}, {}, 0
for _, flow in ipairs(call('SMEMBERS', base .. 'flows')) do
  if #taken >= limit then break end
  local stream = base .. 'flow:' .. flow
  local pending = redis.pcall('XPENDING', stream, GROUP, 'IDLE', lease, '-', '+', limit - #taken)
  if pending.err then pending = {} end
  for _, one in ipairs(pending) do
    local got = call('XCLAIM', stream, GROUP, consumer, lease, one[1])
    if got[1] and got[1][2] then
      taken[#taken + 1] = {flow, one[4], got}
      local lane, id = lane_of(got[1][2])
      if lane and one[2] == NOBODY then count('running', lane, 1) end
      ids[#ids + 1] = id
    else
      -- Deleted under its claim; XCLAIM has dropped it from the list. `tend` counts what is lost.
      gone = gone + 1
    end
  end
end
tell(ids, now)
return {now, taken, gone}
