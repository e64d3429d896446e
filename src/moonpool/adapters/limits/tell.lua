-- So much was used of what a lease reserves; and perhaps it is over.
--
-- KEYS  of each slot its holders · of each reservation its bucket and its holders (see take.lua)
-- ARGV  lease · now ("": the store's own time) · seconds that a lease lives · number of slots ·
--       used in all · used as told before · 1 when the store may have been told already · 1 when it is over ·
--       interval of each reservation
--
-- The store knows of a lease what it was told. When it knows nothing (the lease has expired, or the store has
-- lost its memory), it charges what is new since it was told last, unless this may be said for the second time.
local EPOCH = 1750000000
local KEEP = 60000
local lease, now, seconds, slots = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local used, told, unsure, over = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8] == '1'
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
if over then
  for slot = 1, slots do
    redis.call('ZREM', KEYS[slot], lease)
  end
end
for reserve = 1, (#KEYS - slots) / 2 do
  local bucket, holders = KEYS[slots + 2 * reserve - 1], KEYS[slots + 2 * reserve]
  local there = redis.call('HMGET', bucket, 'L:' .. lease, 'tat')
  local more, freed = 0, 0
  if there[1] then
    local left, before = string.match(there[1], '^(%S+) (%S+)$')
    left, before = tonumber(left), tonumber(before)
    more = used - before
    freed = over and left or math.min(math.max(more, 0), left)
    if over then
      redis.call('HDEL', bucket, 'L:' .. lease)
      redis.call('ZREM', holders, lease)
    else
      redis.call('HSET', bucket, 'L:' .. lease, string.format('%d %d', left - freed, used))
    end
    if freed ~= 0 then
      redis.call('HINCRBY', bucket, 'sum', string.format('%d', -freed))
    end
  elseif not unsure then
    more = used - told
  end
  if more ~= 0 then
    local tat = math.max(tonumber(there[2] or 0), now) + more * tonumber(ARGV[8 + reserve])
    redis.call('HSET', bucket, 'tat', string.format('%.17g', tat))
    redis.call('PEXPIRE', bucket, math.ceil(math.max(tat - now, seconds) * 1000) + KEEP)
  end
end
return 1
