-- Takes over jobs whose consumer has not renewed them within the lease.
-- ARGV: consumer, lease in ms, limit
-- Gives now, {{flow, claims before this one, entries} ...}, number of entries that are gone
local consumer, lease, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()
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
      ids[#ids + 1] = string.match(field(got[1][2], 'm') or '', '^%S+ (%S+)')
    else
      -- Deleted under its claim; XCLAIM has dropped it from the list. `tend` counts what is lost.
      gone = gone + 1
    end
  end
end
tell(ids, now)
return {now, taken, gone}
