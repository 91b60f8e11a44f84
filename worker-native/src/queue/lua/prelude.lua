-- Before every script: names of keys, the clock, and the steps that several transitions share.
-- KEYS[1] is the task's base, `prefix:{task}:`; all keys begin with it, so that they share a slot.
--
--   flow:FLOW      stream of waiting and running jobs; a flow is a class, or class:tenant. Group `consumers`.
--   flows          set of flows that have a stream
--   ring:CLASS     flows with jobs nobody has claimed, by virtual time; ages:CLASS: the same, by when the first of these
--                  jobs was stored (ms); heads: flow to that job's sid
--                  An entry has `m` (META), `b` (the job in JSON, a line feed, its numbers) and, after a retry, `e`.
--   job:ID         "@FLOW SID" while unsettled (SID is - while it waits for another try), then the result in JSON
--   META           "LANE ID SIZE CALLBACK STARTS AT UNTIL", - where there is none
--   depth, running by lane: unsettled jobs, and those of them that a consumer holds
--   count          bytes, settled, unrun, lost, found_remade, passed:CLASS, turn:CLASS; foreign, foreign_held: entries that
--                  somebody else put there, and those of them that a consumer holds, as last counted
--   tenants, tenant_bytes   unsettled, by tenant
--   delayed        ids of jobs that wait for another try, by due time, each with a hash later:ID; dead, outbox alike
--   results        ids, newest first; idem:KEY, events, watched, wake, returned
--   born           name of these data; mourned:NAME: the loss of data of that name was counted
--   fence:CONSUMER claims of that consumer up to this number come too late
--   answers:N      answers that may be labelled, by id, in generation N (the newest: count `answers`); labelled:NAME
--   beliefs        by model version: what labels taught, the part that is read often; detectors: the other part
local base = KEYS[1]
local call = redis.call
local GROUP = 'consumers'
-- Owner of jobs that were handed back.
local NOBODY = '~returned'

local function now_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function class_of(flow) return string.match(flow, '^[^:]*') end
local function tenant_of(flow) return string.match(flow, ':(.*)$') or '' end

-- Lane, id, size, callback, starts, at, until; nothing where somebody else wrote it.
local function parse_meta(meta)
  return string.match(meta or '', '^(%S+) (%S+) (%d+) (%S+) (%d+) (%d+) (%S+)$')
end

-- Flow and sid of an unsettled job.
local function parse_job(text)
  return string.match(text or '', '^@(%S+) (%S+)$')
end

local function number(key, field) return tonumber(call('HGET', base .. key, field) or 0) end

-- Adds to a counter in a hash; one that comes to nothing goes, where the hash grows with what callers name.
local function count(key, field, by)
  if by ~= 0 then call('HINCRBY', base .. key, field, by) end
end

local function count_tenant(tenant, jobs, bytes)
  if tenant == '' then return end
  if call('HINCRBY', base .. 'tenants', tenant, jobs) <= 0 then call('HDEL', base .. 'tenants', tenant) end
  if call('HINCRBY', base .. 'tenant_bytes', tenant, bytes) <= 0 then call('HDEL', base .. 'tenant_bytes', tenant) end
end

-- Notes which of a flow's jobs that nobody has claimed is the first.
local function set_head(flow, sid)
  call('ZADD', base .. 'ages:' .. class_of(flow), string.match(sid, '^%d+'), flow)
  call('HSET', base .. 'heads', flow, sid)
end

-- Says that a flow has jobs nobody has claimed, and which is the first.
local function waits(flow, sid)
  local class = class_of(flow)
  local start = call('HGET', base .. 'count', 'turn:' .. class) or '0'
  if call('ZADD', base .. 'ring:' .. class, 'NX', start, flow) == 1 then set_head(flow, sid) end
end

-- Says that it has none.
local function rests(flow)
  local class = class_of(flow)
  call('ZREM', base .. 'ring:' .. class, flow)
  call('ZREM', base .. 'ages:' .. class, flow)
  call('HDEL', base .. 'heads', flow)
end

local function make_group(flow)
  return redis.pcall('XGROUP', 'CREATE', base .. 'flow:' .. flow, GROUP, '0', 'MKSTREAM')
end

-- The flow of a job that is handed in, and whether it is new: a tenant who comes when there are `most` flows shares the
-- class's last one. No tenant's name has a tilde.
local function flow_for(flow, most, coming)
  if tenant_of(flow) == '' or call('SISMEMBER', base .. 'flows', flow) == 1 then return flow, false end
  if call('SCARD', base .. 'flows') + coming < most then return flow, true end
  return class_of(flow) .. ':~', false
end

local function new_flow(flow)
  if call('SADD', base .. 'flows', flow) == 1 then make_group(flow) end
end

-- One token is enough: who takes it claims until nothing is left.
local function wake()
  if call('LLEN', base .. 'wake') == 0 then call('LPUSH', base .. 'wake', '1') end
end

local function is_watched() return call('EXISTS', base .. 'watched') == 1 end

-- Tells who watches; nothing where nobody does.
local function tell(ids, now)
  if #ids > 0 and is_watched() then
    call('XADD', base .. 'events', 'MINID', '~', now - 60000, '*', 'ids', table.concat(ids, ' '))
  end
end

-- Who holds an entry, and how often it was claimed.
local function held(flow, sid)
  local pending = redis.pcall('XPENDING', base .. 'flow:' .. flow, GROUP, sid, sid, 1)
  if pending.err or not pending[1] then return nil, 0 end
  return pending[1][2], pending[1][4]
end

local function entry_of(flow, sid)
  local found = call('XRANGE', base .. 'flow:' .. flow, sid, sid)
  return found[1] and found[1][2]
end

-- The sid of the entry after another.
local function after(flow, sid)
  local found = call('XRANGE', base .. 'flow:' .. flow, '(' .. sid, '+', 'COUNT', 1)
  return found[1] and found[1][1]
end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return nil
end

-- Lane and id of an entry; nothing where somebody else put it there.
local function lane_of(fields)
  return string.match(fields and field(fields, 'm') or '', '^(%S+) (%S+)')
end

-- Hands a claimed job back: claimed by nobody, first in line, and not started.
local function hand_back(flow, sid, claims)
  -- It stays in the list of claims: if what follows is lost, the lease brings it back.
  call('XCLAIM', base .. 'flow:' .. flow, GROUP, NOBODY, 0, sid, 'RETRYCOUNT', math.max(0, claims - 1), 'JUSTID')
  call('RPUSH', base .. 'returned', flow .. ' ' .. sid)
  local lane, id = lane_of(entry_of(flow, sid))
  if lane then count('running', lane, -1) end
  return id
end

-- Does a claim come too late? Its consumer got no answer in time, and has been told since what it holds.
local function is_late(consumer, number)
  return tonumber(number) <= tonumber(call('GET', base .. 'fence:' .. consumer) or 0)
end

-- What becomes visible at a job's end, in the step that took its entry out of the stream.
-- Every call after the first write of a script is allowed when memory is full.
local function publish(id, flow, bytes, result, ttl_ms, callback, now)
  call('SET', base .. 'job:' .. id, result, 'PX', ttl_ms)
  count_tenant(tenant_of(flow), -1, -bytes)
  if callback and callback ~= '-' then
    call('ZADD', base .. 'outbox', now, id)
    call('HSET', base .. 'outbox:' .. id, 'url', callback, 'attempts', 0, 'at', now)
  end
end
