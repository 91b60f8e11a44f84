-- Stores jobs and counts them; each is refused or answered again on its own.
-- ARGV: max depth, max bytes, percent of them for one tenant, ms to keep a key,
--   then for each job: id, flow, tenant, lane, entry, features, ms left or '', room or '', callback or '',
--   key or '', fingerprint, status, body
-- Gives {{1} stored | {0, bound, depth, bytes} | {2, status, body} | {3} conflict ...}, depths
local WIDTH = 13
local max_depth, max_bytes, percent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) / 100
local now = now_ms()
local total, bytes = 0, number('count', 'bytes')
local lanes, flows, answers, stored = {}, {}, {}, 0
local depth = call('HGETALL', base .. 'depth')
for i = 2, #depth, 2 do total = total + math.max(0, tonumber(depth[i])) end
local bytes_before = bytes

local function kept(key, fingerprint)
  local text = call('GET', base .. 'idem:' .. key)
  if not text then return nil end
  local print, status, body = string.match(text, '^(%S+) (%d+) (.*)$')
  if print ~= fingerprint then return {3} end
  return {2, status, body}
end

local function no_room(tenant, size, room)
  if total >= max_depth then return 'jobs' end
  if bytes + size > max_bytes then return 'bytes' end
  if room ~= '' and total >= tonumber(room) then return 'wait' end
  if tenant ~= '' and (number('tenants', tenant) >= max_depth * percent
      or number('tenant_bytes', tenant) + size > max_bytes * percent) then
    return 'tenant'
  end
  return nil
end

local function store(a)
  local id, flow, tenant, lane, entry, features, left = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6]
  local key, callback = ARGV[a + 9], ARGV[a + 8]
  if key ~= '' then
    local before = kept(key, ARGV[a + 10])
    if before then return before end
  end
  local job = base .. 'job:' .. id
  if call('EXISTS', job) == 1 then return {1} end
  local size = #entry + #features
  local bound = no_room(tenant, size, ARGV[a + 7])
  if bound then return {0, bound, total, bytes} end
  local deadline = left ~= '' and now + tonumber(left) or ''
  -- Id, lane and callback stand beside the entry: a consumer that cannot read it can still settle the job.
  local sid = call('XADD', base .. 'flow:' .. flow, '*', 'id', id, 'lane', lane, 'at', now, 'until', deadline,
    'size', size, 'callback', callback, 'job', entry, 'features', features)
  -- No time to live while the job is queued: a result must find its state.
  call('HSET', job, 'flow', flow, 'sid', sid, 'lane', lane, 'size', size, 'at', now)
  if callback ~= '' then call('HSET', job, 'callback', callback) end
  if key ~= '' then
    call('SET', base .. 'idem:' .. key, ARGV[a + 10] .. ' ' .. ARGV[a + 11] .. ' ' .. ARGV[a + 12], 'PX', ARGV[4])
  end
  count_tenant(tenant, 1, size)
  lanes[lane] = (lanes[lane] or 0) + 1
  flows[flow] = true
  total, bytes, stored = total + 1, bytes + size, stored + 1
  return {1}
end

for a = 5, #ARGV, WIDTH do answers[#answers + 1] = store(a) end
for lane, n in pairs(lanes) do count('depth', lane, n) end
count('count', 'bytes', bytes - bytes_before)
for flow in pairs(flows) do
  new_flow(flow)
  waits(flow, now)
end
if stored > 0 then wake() end
return {answers, call('HGETALL', base .. 'depth')}
