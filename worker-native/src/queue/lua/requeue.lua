-- Hands dead letters in again under their old ids, without a deadline; their results are gone.
-- ARGV: most flows, then ids
-- Gives 1 for each that was there
local now, answers, stored = now_ms(), {}, {}

local function hand_in(id)
  local f = call('HMGET', base .. 'dead:' .. id, 'flow', 'm', 'b')
  local lane, _, size, callback = parse_meta(f[2])
  -- What could not be read then cannot be read now.
  if not lane then return 0 end
  local flow, meta = flow_for(f[1], tonumber(ARGV[1]), 0), table.concat({lane, id, size, callback, 0, now, '-'}, ' ')
  local sid = call('XADD', base .. 'flow:' .. flow, '*', 'm', meta, 'b', f[3])
  call('SET', base .. 'job:' .. id, '@' .. flow .. ' ' .. sid)
  call('DEL', base .. 'dead:' .. id, base .. 'outbox:' .. id)
  call('ZREM', base .. 'dead', id)
  call('ZREM', base .. 'outbox', id)
  call('LREM', base .. 'results', 1, id)
  new_flow(flow)
  waits(flow, sid)
  count('depth', lane, 1)
  count('count', 'bytes', tonumber(size))
  count_tenant(tenant_of(flow), 1, tonumber(size))
  stored[#stored + 1] = id
  return 1
end

for a = 2, #ARGV do answers[#answers + 1] = hand_in(ARGV[a]) end
if #stored > 0 then wake() end
tell(stored, now)
return answers
