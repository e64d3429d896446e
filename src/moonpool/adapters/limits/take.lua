-- What one request asks for: all of it, or nothing (ports/limits.py; the arithmetic is gcra.py's).
--
-- KEYS  of each slot its holders (sorted set: lease → until when)
--       of each reservation its bucket (hash: tat, sum, and "L:" .. lease → "left used") and its holders
--       of each rate its TAT
-- ARGV  lease · now ("": the store's own time) · seconds that a lease lives · number of slots ·
--       number of reservations · amount · places of each slot · interval and tolerance of each
--       reservation, then of each rate
-- Gives {0, tightest, how far it is ahead} · {1, slot} · {2, rate, how far it is ahead}; rates are counted
-- through, reservations first; what is refused for good has had its expired leases taken out.
local EPOCH = 1750000000 -- near now, so that a double tells tenths of microseconds
local KEEP = 60000       -- ms beyond what is needed; as a full bucket is as good as none, the rest is cleaning
local lease, now, seconds = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local slots, reserves, amount = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local until_when = string.format('%.17g', now + seconds)
local argument = 6

for slot = 1, slots do
  local places = tonumber(ARGV[argument + slot])
  if redis.call('ZCARD', KEYS[slot]) >= places then
    redis.call('ZREMRANGEBYSCORE', KEYS[slot], '-inf', string.format('%.17g', now))
    if redis.call('ZCARD', KEYS[slot]) >= places then
      return {1, slot}
    end
  end
end
argument = argument + slots

local tightest, fullest, furthest = 0, -1, 0
local function weigh(rate, ahead, tolerance)
  if ahead / tolerance > fullest then
    tightest, fullest, furthest = rate, ahead / tolerance, ahead
  end
end

local function freed(bucket, holders)
  -- What the dead have reserved comes back; what they used is known as far as they told.
  local dead = redis.call('ZRANGEBYSCORE', holders, '-inf', string.format('%.17g', now))
  local sum = 0
  for _, one in ipairs(dead) do
    local held = redis.call('HGET', bucket, 'L:' .. one)
    if held then
      sum = sum + tonumber(string.match(held, '^%S+'))
      redis.call('HDEL', bucket, 'L:' .. one)
    end
    redis.call('ZREM', holders, one)
  end
  if sum ~= 0 then
    redis.call('HINCRBY', bucket, 'sum', string.format('%d', -sum))
  end
  return sum
end

local buckets = {}
for reserve = 1, reserves do
  local bucket, holders = KEYS[slots + 2 * reserve - 1], KEYS[slots + 2 * reserve]
  local interval, tolerance = tonumber(ARGV[argument + 1]), tonumber(ARGV[argument + 2])
  argument = argument + 2
  local there = redis.call('HMGET', bucket, 'tat', 'sum')
  local used, sum = math.max(tonumber(there[1] or 0) - now, 0), tonumber(there[2] or 0)
  if used + (sum + amount) * interval > tolerance then
    sum = sum - freed(bucket, holders)
  end
  local ahead = used + (sum + amount) * interval
  if ahead > tolerance then
    return {2, reserve, string.format('%.17g', used + sum * interval)}
  end
  weigh(reserve, ahead, tolerance)
  buckets[reserve] = {bucket, holders, used}
end

local first = slots + 2 * reserves
local tats = {}
for unit = 1, #KEYS - first do
  local key, interval, tolerance = KEYS[first + unit], tonumber(ARGV[argument + 1]), tonumber(ARGV[argument + 2])
  argument = argument + 2
  local used = math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
  if used + interval > tolerance then
    return {2, reserves + unit, string.format('%.17g', used)}
  end
  weigh(reserves + unit, used + interval, tolerance)
  tats[unit] = {key, used + interval}
end

-- Nothing stands in the way.
for slot = 1, slots do
  redis.call('ZADD', KEYS[slot], until_when, lease)
  redis.call('PEXPIRE', KEYS[slot], math.ceil(seconds * 1000) + KEEP)
end
for _, of in ipairs(buckets) do
  redis.call('HSET', of[1], 'L:' .. lease, ARGV[6] .. ' 0')
  redis.call('HINCRBY', of[1], 'sum', ARGV[6])
  redis.call('ZADD', of[2], until_when, lease)
  local ms = math.ceil(math.max(of[3], seconds) * 1000) + KEEP
  redis.call('PEXPIRE', of[1], ms)
  redis.call('PEXPIRE', of[2], ms)
end
for _, of in ipairs(tats) do
  redis.call('SET', of[1], string.format('%.17g', now + of[2]), 'PX', math.ceil(of[2] * 1000) + KEEP)
end
return {0, tightest, string.format('%.17g', furthest)}
