-- Hands claimed jobs back: claimed by nobody, first in line, and not started.
-- ARGV: consumer, then flow and sid of each job
local handed, ids = 0, {}
for a = 2, #ARGV, 2 do
  local flow, sid = ARGV[a], ARGV[a + 1]
  local owner, claims = held(flow, sid)
  if owner == ARGV[1] then
    -- They stay in the list of claims: if what follows is lost, the lease brings them back.
    call('XCLAIM', base .. 'flow:' .. flow, GROUP, NOBODY, 0, sid, 'RETRYCOUNT', math.max(0, claims - 1), 'JUSTID')
    call('RPUSH', base .. 'returned', flow .. ' ' .. sid)
    local lane, id = lane_of(entry_of(flow, sid))
    if lane then count('running', lane, -1) end
    ids[#ids + 1] = id
    handed = handed + 1
  end
end
if handed > 0 then wake() end
tell(ids, now_ms())
return handed
