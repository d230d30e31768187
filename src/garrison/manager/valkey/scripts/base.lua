-- What operations are made from: the layout of a store, writes that can be undone, heads of containers,
-- and links between them. In front of an operation stands what it uses, as the server makes all of it
-- anew each time; a part is what lies between two empty lines.
--
-- KEYS[1]   the prefix of all keys, P. The keys below it lie in the same slot, by its hash tag.
-- ARGV[1]   the fence of the caller's transaction, or nothing
-- ARGV[2]   the caller's owner id
-- ARGV[3]   slot:number of a request that writes; nothing of one that reads, or 'now' if it waits no more
-- ARGV[4..] the arguments of the operation; the first is mostly a container's number
--
-- P meta      hash: format, uuid, next (number), fence
-- P names     hash: name -> "kind number"
-- P h:N       hash, the head of container N: k kind, s next place in the order, v change count, l limit,
--             t typecode, u unfinished items, x shut down, o owned by another container, n its name,
--             r references from containers, R references of owners, L links among its values,
--             w someone waits for a change, d the kind of a container that is being freed
-- P o:N i:N k:N   a mapping: zset of canonical keys in their order; hash of values; hash of the
--             originals of keys that their canonical form does not tell
-- P q:N c:N   a sequence: list of values; hash of a queue's claims: ticket -> "owner value"
-- P w:N       set: the lists on which clients wait for a change of N; N is 0 for the end of a transaction
-- P own       zset: owners by the end of their lease, in ms of the server's clock
-- P or:O cl:O rep:O   hashes of owner O: its references, its claims, the last reply of each slot
-- P gc        zset: containers that may be garbage, by the time at which that was first so
-- P tx        "fence owner end-of-lease" of the open transaction; txlog: list of what undoes it, and
--             txn: how much that is;
--             txd: set of the containers that it has changed; txt: set of keys that it has put away
local P, FENCE, OWNER, REQUEST = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local call, byte, sub = redis.call, string.byte, string.sub
local DICT, SET, DEQUE, QUEUE, JOINABLE_QUEUE = 1, 3, 4, 8, 9
local CHILD, REF, TREE = 16, 17, 18
local CHUNK = 1000 -- as many arguments as one call takes without harm
local WHOLE = 5000 -- and as many as it takes at all, if they are not doubled
local WAKE_S = 60
local REPLIES_S = 600
local GRACE_MS = 60000
local VIEW_MOST = 4000

local log -- what undoes this script's writes; nil: nothing is noted
local changed = {} -- the containers that this script has changed
local any_garbage = false
local in_transaction, beside_transaction = false, false

-- An expected failure, before anything was written.
local function fail(what)
  error({ err = 'GARRISON ' .. what })
end

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Call a command with any number of arguments, some at a time.
local function in_chunks(command, key, list, each)
  for from = 1, #list, CHUNK do
    local reply = call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
    if each then each(reply, from) end
  end
end

-- --- Heads ---------------------------------------------------------------------------------------------

-- What a container of each kind has.
local KIND =
  { 'pairs', 'items', 'members', 'items', 'pairs', 'items', 'items', 'items', 'items', 'pairs' }

-- A number in a head, which may be missing.
local function whole(text, default)
  if not text then return default end
  local number = tonumber(text)
  if not number or number % 1 ~= 0 then error('a head is damaged') end
  return number
end

-- The head of a container. `wanted` is 'pairs', 'items', 'mapping' or nil for any kind.
local function head_of(number, wanted)
  local found = call('HMGET', P .. 'h:' .. number, 'k', 'l', 'x', 'v')
  local kind = tonumber(found[1])
  if not kind then fail('GONE ' .. number) end
  local form = KIND[kind]
  if not form then error('a container of an unknown kind') end
  if wanted and form ~= wanted and (wanted ~= 'mapping' or form == 'items') then
    fail('WRONGKIND ' .. kind)
  end
  return {
    kind = kind,
    form = form,
    limit = whole(found[2], -1),
    shut = found[3],
    version = whole(found[4], 0),
  }
end

local function length_of(number, head)
  if head.form == 'items' then return call('LLEN', P .. 'q:' .. number) end
  return call('ZCARD', P .. 'o:' .. number)
end
