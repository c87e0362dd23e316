/* The protocol of cache/mm as a model: who may find, pin, freeze, remove, fill, lock and free a
 * page, and when a mapping may end. spin looks at every interleaving of the steps.
 *
 * Purpose:   what cache/README.md promises of a page's life, over all interleavings of few threads:
 *              found_is_own       what a lookup gives is the key's own, and stays so while pinned
 *              found_not_removed  a lookup never gives what was removed before it began
 *              miss_is_true       a lookup finds what is in the index all the while
 *              free_once          free_page runs exactly once in each life of a descriptor
 *              free_unpinned      ... and never while a thread holds a pin, or it can be found
 *              frozen_is_reclaims nobody else removes a page that reclaim froze
 *              order_once         invalidate_page: once for a page that is removed by other than
 *                                 reclaim, never for another
 *              mapping_alive      no mapping is touched after its end
 *              read_is_fresh      a lookup after an invalidation sees no answer from before it
 *              dirty_kept         a dirty page is neither reclaimed nor dropped by coherence
 *              room_found         an allocation does not fail while another has a victim in hand
 *              background_awake   the reclaimer does not sleep while the low watermark is passed
 *            and no lost wake-up: every thread ends ('invalid end state' otherwise).
 * Use:       tests/proofs/run. SCENARIO picks the threads; MUT_* breaks one step, and then the
 *            assertion that this step is there for must fail: a check that can't fail proves nothing.
 * Faithful:  one step here is one atomic operation, or what one mutex makes look like one, of the
 *            function named beside it. The CAS loops are single steps: they have no effect until
 *            they succeed. Not in the model: weak memory (SC is assumed; the acquire/release pairs
 *            are argued in page.h and run under TSan in tests/model/page_cache_threads_test.cc),
 *            hash collisions of wait queues (they only add wake-ups), lockless tries beyond the
 *            first (each is the same walk again), the order of the reclaim lists (any page may be
 *            next), and the deadline of wait_for_victims (here it waits for ever, which is harder).
 */

#define LOOKUP_HIT 1
#define LOOKUP_MISS 2
#define TEARDOWN 3
#define FILL_TWICE 4
#define FILL_CHANGE 5
#define DIRTY 6
#define WAITS 7
#define VICTIMS 8
#define BACKGROUND 9

#ifndef SCENARIO
#error "-DSCENARIO= one of the above"
#endif
#define HAS_PAGES (SCENARIO <= DIRTY)

#define NPAGES 2 /* descriptors are 1..NPAGES; 0 is null */
#define NMAPS 2  /* mappings are 1..NMAPS; 0 is null */
#define NBUCKETS 2
#define bucket_of(k) ((k) % NBUCKETS) /* keys 0 and 2 share a chain */

typedef PageT {
  /* the state word: every d_step on these is one read-modify-write of Page::state_ */
  byte count;
  bit locked, uptodate, dirty, writeback, waiters, private;
  /* plain atomics beside it */
  byte mapping, key, next;
  /* under a mutex */
  bit in_tree; /* AddressSpace::mutex_ */
  bit on_lru;  /* PageCache::lru_mutex_ */
  bit on_free; /* PageCache::free_mutex_ */
  bit queue;   /* the wait queue's mutex */
  byte asleep; /* who sleeps on it, a bit for each process */
  byte version; /* content */
  /* ghosts: they decide nothing */
  byte life;    /* how often it was taken from the free list */
  byte held;    /* pins of threads: the count without the cache's own */
  bit gone;     /* unlinked in this life */
  bit added;    /* was findable in this life */
  bit freed;    /* free_page ran in this life */
  bit reclaimed;
  byte orders;  /* invalidate_page ran so often in this life */
  bit unwritten; /* somebody's write has not reached the remote */
};

PageT P[NPAGES + 1];
byte head[NBUCKETS];
byte chain_seq[NBUCKETS]; /* PageIndex::Bucket::sequence */
bit stripe[NBUCKETS];
bit lru;
bit mutex[NMAPS + 1];       /* AddressSpace::mutex_ */
byte sequence[NMAPS + 1];   /* AddressSpace::sequence_ */
byte removed_cv[NMAPS + 1]; /* AddressSpace::removed_: who sleeps */
bit alive[NMAPS + 1];       /* ghost */
byte remote = 1;            /* the version that the remote holds */
byte floor = 1;             /* ghost: lookups that begin now must see at least this */
byte running;               /* ghost: threads that have not ended */

#define is_or_was(p, m, k) ((P[p].mapping == 0 || P[p].mapping == (m)) && P[p].key == (k))
/* What fails is named in pan's message: the names are variables that are never set. */
hidden byte found_is_own, found_not_removed, miss_is_true, free_once, free_unpinned, order_once;
hidden byte mapping_alive, read_is_fresh, dirty_kept, room_found, background_awake, frozen_is_reclaims;
#define promise(name, holds) assert(name || (holds))
#define lock(l) atomic { !(l) -> l = 1 }
#define unlock(l) l = 0
#define me (1 << _pid)

/* AddressSpace::mutex_: every use asserts that the mapping still is. */
inline lock_mapping(m) { atomic { !mutex[m] -> mutex[m] = 1; assert_mapping_alive(m) } }
inline unlock_mapping(m) { d_step { assert_mapping_alive(m); mutex[m] = 0 } }
inline assert_mapping_alive(m) { promise(mapping_alive, alive[m]) }

/* ------------------------------------------------------------------ the state word, page.h ---- */

inline try_get(p, ok) { /* Page::try_get */
  d_step {
    if
#ifdef MUT_GET_FROM_ZERO
    :: true -> P[p].count++; P[p].held++; ok = 1
#else
    :: P[p].count > 0 -> P[p].count++; P[p].held++; ok = 1
    :: else -> ok = 0
#endif
    fi
  }
}

inline is(p, m, k, ok) { /* Page::is: the mapping first, then the key */
#ifdef MUT_KEY_BEFORE_MAPPING
  if :: P[p].key == k -> if :: P[p].mapping == m -> ok = 1 :: else -> ok = 0 fi
#else
  if :: P[p].mapping == m -> if :: P[p].key == k -> ok = 1 :: else -> ok = 0 fi
#endif
  :: else -> ok = 0
  fi
}

inline freeze(p, ok) { /* Page::freeze: count and flags in one compare-and-swap */
#ifdef MUT_DIRTY_BEFORE_FREEZE
  ok = !(P[p].locked || P[p].dirty || P[p].writeback || P[p].private);
  d_step {
    if :: ok && P[p].count == 1 -> P[p].count = 0 :: else -> ok = 0 fi
  }
#elif defined(MUT_FREEZE_PINNED)
  d_step {
    if
    :: P[p].count > 0 && !P[p].locked && !P[p].dirty && !P[p].writeback && !P[p].private ->
       P[p].count = 0; ok = 1
    :: else -> ok = 0
    fi
  }
#else
  d_step {
    if
    :: P[p].count == 1 && !P[p].locked && !P[p].dirty && !P[p].writeback && !P[p].private ->
       P[p].count = 0; ok = 1
    :: else -> ok = 0
    fi
  }
#endif
}

inline run_free_page(p) { /* PageHooks::free_page */
  d_step {
    promise(free_once, !P[p].freed);
    promise(free_unpinned, P[p].held == 0 && !P[p].in_tree && P[p].mapping == 0);
    promise(order_once, P[p].orders == (P[p].added && !P[p].reclaimed));
    P[p].freed = 1
  }
}

inline free_removed(p) { /* PageCache::free_removed */
#ifndef MUT_FREE_AT_REMOVAL
  run_free_page(p);
#endif
#ifdef MUT_FREED_BY_BOTH
  if :: P[p].added && !P[p].reclaimed -> run_free_page(p) :: else fi;
#endif
  d_step {
    P[p].count = 0; P[p].locked = 0; P[p].uptodate = 0; P[p].dirty = 0; P[p].writeback = 0;
    P[p].waiters = 0; P[p].private = 0
  };
  P[p].on_free = 1
}

inline put(p) { /* PageRef::reset */
  d_step { assert(P[p].count > 0); P[p].count--; P[p].held--; last = (P[p].count == 0) }
  if
  :: last -> free_removed(p)
  :: else
  fi
}

inline put_cache(p) { /* the cache's own reference, adopted in AddressSpace::forget */
  d_step { assert(P[p].count > 0); P[p].count--; last = (P[p].count == 0) }
  if
  :: last -> free_removed(p)
  :: else
  fi
}

/* --------------------------------------------------- the page lock, page_cache.cc --------------- */

inline wait_clear(p, flag) { /* PageCache::wait_clear */
  lock(P[p].queue);
  do
  :: P[p].waiters = 1;
     if
#ifndef MUT_SLEEP_UNSEEN
     :: !(flag) -> break
     :: else ->
#else
     :: true ->
#endif
        d_step { P[p].asleep = P[p].asleep | me; P[p].queue = 0 }
        (P[p].asleep & me) == 0;
        lock(P[p].queue)
     fi
#ifdef MUT_SLEEP_UNSEEN
     ;
     if :: !(flag) -> break :: else fi
#endif
  od;
  unlock(P[p].queue)
}

inline lock_page(p) { /* PageCache::lock_page, Page::try_lock */
  do
  :: d_step { got = !P[p].locked; P[p].locked = 1 }
     if
     :: got -> break
     :: else -> wait_clear(p, P[p].locked)
     fi
  od
}

inline wake(p) { /* the end of unlock_page and end_writeback */
  if
  :: woken -> lock(P[p].queue); P[p].asleep = 0; unlock(P[p].queue)
  :: else
  fi
}

inline unlock_page(p) { /* PageCache::unlock_page */
#ifdef MUT_WAKE_BEFORE_UNLOCK
  woken = P[p].waiters;
  wake(p);
  d_step { assert(P[p].locked); P[p].locked = 0; P[p].waiters = 0 }
#elif defined(MUT_LOOK_BEFORE_UNLOCK)
  woken = P[p].waiters;
  d_step { assert(P[p].locked); P[p].locked = 0; P[p].waiters = 0 }
  wake(p)
#else
  d_step { assert(P[p].locked); woken = P[p].waiters; P[p].locked = 0; P[p].waiters = 0 }
  wake(p)
#endif
}

inline end_writeback(p) { /* PageCache::end_writeback */
  d_step { woken = P[p].waiters; P[p].writeback = 0; P[p].waiters = 0; P[p].unwritten = 0 }
  wake(p)
}

/* ------------------------------------------------------------------- the index, page_index.cc -- */

inline index_insert(p, b) { /* PageIndex::insert; under the mapping's mutex */
  lock(stripe[b]);
  chain_seq[b]++;
  P[p].next = head[b];
  head[b] = p;
  chain_seq[b]++;
  unlock(stripe[b])
}

inline index_remove(p, b) { /* PageIndex::remove; the page keeps its own link */
  lock(stripe[b]);
  chain_seq[b]++;
  d_step { /* the search moves nothing; the store of the link is the step */
    if
    :: head[b] == p -> head[b] = P[p].next
    :: else ->
       at = head[b];
       do
       :: P[at].next != p -> at = P[at].next; assert(at != 0)
       :: else -> P[at].next = P[p].next; break
       od;
       at = 0
    fi
  }
#ifdef MUT_SEQUENCE_MOVES_ONCE
  chain_seq[b]--;
#else
  chain_seq[b]++;
#endif
  unlock(stripe[b])
}

#define MISSED 0
#define FOUND 1
#define UNSURE 2

inline walk(m, k, b) { /* PageIndex::walk: leaves `result`, and in `pg` the page found */
  d_step { before = chain_seq[b]; steps = 0; result = MISSED }
  pg = head[b];
  do
  :: pg == 0 || steps > NPAGES -> break
  :: else ->
     is(pg, m, k, ok);
     if
     :: ok ->
        try_get(pg, ok);
        if
        :: !ok -> result = UNSURE; break
        :: else ->
#ifndef MUT_NO_SECOND_LOOK
           is(pg, m, k, ok);
#endif
           if
           :: ok -> result = FOUND; break
           :: else -> put(pg)
           fi
        fi
     :: else
     fi;
     d_step { pg = P[pg].next; steps++ }
  od;
  if
  :: result == MISSED ->
#ifdef MUT_MISS_BELIEVED
     skip
#else
     if
     :: steps <= NPAGES && before == chain_seq[b] && before % 2 == 0
     :: else -> result = UNSURE
     fi
#endif
  :: else
  fi
}

inline find(m, k) { /* PageIndex::find: leaves the page, pinned, in `pg`, or 0 */
  d_step { /* ghost: which lives were over before this lookup began */
    snap1 = P[1].life - !P[1].gone; snap2 = P[2].life - !P[2].gone; floor_then = floor
  }
  walk(m, k, bucket_of(k));
  if
  :: result == UNSURE ->
     lock(stripe[bucket_of(k)]);
     walk(m, k, bucket_of(k));
     unlock(stripe[bucket_of(k)])
  :: else
  fi;
  d_step {
    if
    :: result == FOUND ->
       promise(found_is_own, is_or_was(pg, m, k));
       promise(found_not_removed, P[pg].life > (pg == 1 -> snap1 : snap2))
    :: else -> pg = 0
    fi;
    before = 0; steps = 0; result = 0; ok = 0; last = 0; snap1 = 0; snap2 = 0
  }
}

/* While it is pinned nothing about it may change but flags. */
inline still_own(p, m, k) {
  d_step { promise(found_is_own, is_or_was(p, m, k)); promise(free_unpinned, !P[p].freed) }
}

/* --------------------------------------------------------- the mapping, address_space.cc ------- */

inline unlink(p, m) { /* AddressSpace::unlink; under the mapping's mutex */
  P[p].in_tree = 0;
  index_remove(p, bucket_of(P[p].key));
  d_step { P[p].mapping = 0; P[p].gone = 1 }
}

inline order(p) { /* PageHooks::invalidate_page */
  d_step { promise(order_once, P[p].locked && P[p].mapping == 0 && P[p].orders == 0); P[p].orders++ }
}

inline forget(p, with_lock) { /* AddressSpace::forget; pinned by the caller */
  if
  :: with_lock -> order(p)
  :: else ->
     if
     :: P[p].uptodate -> lock_page(p); order(p); unlock_page(p)
     :: else
     fi
  fi;
#ifdef MUT_FREE_AT_REMOVAL
  run_free_page(p);
#endif
  atomic { !lru -> assert(P[p].on_lru); P[p].on_lru = 0 } /* PageCache::removed */
  put_cache(p)
}

inline remove_page(p, m) { /* AddressSpace::remove, unlink_if; pinned by the caller */
  lock_mapping(m);
  if
#ifdef MUT_UNLINKED_LATE
  :: P[p].mapping == m -> P[p].in_tree = 0; P[p].gone = 1; now = 1
#else
  :: P[p].mapping == m -> unlink(p, m); now = 1
#endif
  :: else -> now = 0
  fi;
  unlock_mapping(m)
#ifdef MUT_UNLINKED_LATE
  ;
  if :: now -> index_remove(p, bucket_of(P[p].key)); P[p].mapping = 0 :: else fi
#endif
}

inline end_failed_fill(p, m) { /* AddressSpace::end_failed_fill */
  remove_page(p, m);
  if
  :: now -> forget(p, 1)
  :: else -> order(p) /* whoever removed it left the order to us */
  fi;
  unlock_page(p)
}

inline fill_done(p, m, noted) { /* AddressSpace::fill_done */
  lock_mapping(m);
#ifdef MUT_SKIP_SEQUENCE
  now = (P[p].mapping == m);
#else
  now = (sequence[m] == noted && P[p].mapping == m);
#endif
#ifdef MUT_UPTODATE_UNDER_NO_MUTEX
  unlock_mapping(m);
  if :: now -> P[p].uptodate = 1 :: else fi;
#else
  if :: now -> P[p].uptodate = 1 :: else fi;
  unlock_mapping(m);
#endif
  if
  :: now -> unlock_page(p)
  :: else -> end_failed_fill(p, m)
  fi
}

inline new_page(p) { /* PageCache::new_page: 0 when there is none */
  d_step { /* take_descriptor */
    p = 0;
    if
    :: P[1].on_free -> p = 1
    :: else -> if :: P[2].on_free -> p = 2 :: else fi
    fi;
    if
    :: p != 0 ->
       P[p].on_free = 0;
       P[p].life++; P[p].freed = 0; P[p].gone = 0; P[p].added = 0; P[p].reclaimed = 0;
       P[p].orders = 0; P[p].version = 0; P[p].held = 1
    :: else
    fi
  }
  if
  :: p != 0 -> d_step { P[p].count = 1; P[p].locked = 1 }
  :: else
  fi
}

inline in_the_tree(p, m, k) { /* tree_.find(key), under the mapping's mutex */
  d_step {
    p = 0;
    if
    :: P[1].in_tree && P[1].mapping == m && P[1].key == k -> p = 1
    :: else -> if :: P[2].in_tree && P[2].mapping == m && P[2].key == k -> p = 2 :: else fi
    fi
  }
}

/* AddressSpace::grab: leaves the page, pinned, in `pg` (0: ENOMEM), and whether it made it in
 * `created`. */
inline grab(m, k) {
  created = 0;
  find(m, k);
  if
  :: pg != 0
  :: else ->
     new_page(fresh);
     if
     :: fresh == 0
     :: else ->
        lock_mapping(m);
        do
        :: in_the_tree(pg, m, k);
           if
           :: pg == 0 -> break
           :: else ->
              try_get(pg, ok);
              if
              :: ok -> break
              :: else -> /* frozen: removed_.wait(mutex_) */
                 d_step { removed_cv[m] = removed_cv[m] | me; mutex[m] = 0 }
                 (removed_cv[m] & me) == 0;
                 lock_mapping(m)
              fi
           fi
        od;
        if
        :: pg == 0 ->
           P[fresh].key = k;
           d_step { P[fresh].mapping = m; P[fresh].added = 1 }
           P[fresh].count++;
           P[fresh].in_tree = 1;
           index_insert(fresh, bucket_of(k));
           atomic { !lru -> P[fresh].on_lru = 1 } /* PageCache::added */
           created = 1;
           unlock_mapping(m);
           d_step { pg = fresh; fresh = 0 }
        :: else -> unlock_mapping(m); put(fresh); fresh = 0
        fi
     fi
  fi
}

/* AddressSpace::remove_range(0): all pages of the mapping, but frozen ones. */
inline remove_range(m) {
  lock_mapping(m);
  sequence[m]++;
  gone = 0;
  pg = 1;
  do
  :: pg > NPAGES -> break
  :: else ->
     if
     :: P[pg].in_tree && P[pg].mapping == m ->
#ifdef MUT_TAKES_FROZEN
        d_step { P[pg].count++; P[pg].held++ }
        unlink(pg, m); gone = gone | (1 << pg)
#else
        try_get(pg, ok);
        if
        :: ok -> unlink(pg, m); gone = gone | (1 << pg)
        :: else
        fi
#endif
     :: else
     fi;
     pg++
  od;
  unlock_mapping(m);
  pg = 1;
  do
  :: pg > NPAGES -> break
  :: else ->
     if
     :: gone & (1 << pg) -> forget(pg, 0); put(pg)
     :: else
     fi;
     pg++
  od;
  skip; /* a break may not lead into a d_step */
  d_step { pg = 0; gone = 0 }
}

/* ------------------------------------------------------------------ reclaim, page_cache.cc ----- */

/* owner_agrees, under the lists' mutex. */
inline owner_agrees(p) {
  try_get(p, ok);
  if
  :: !ok
  :: else ->
     d_step { got = !P[p].locked; P[p].locked = 1 }
     if
     :: !got -> ok = 0
     :: else ->
        if
        :: P[p].count == 2 && !P[p].dirty && !P[p].writeback -> P[p].private = 0 /* it agrees */
        :: else -> ok = 0
        fi;
        unlock_page(p)
     fi;
     /* The last pin can't go under the lists' mutex: the cache's reference is dropped after it. */
     d_step { assert(P[p].count > 1); P[p].count--; P[p].held-- }
  fi
}

inline finish_victim(p) { /* PageCache::finish_victims */
  vm = P[p].mapping;
  d_step { assert_mapping_alive(vm); promise(dirty_kept, !P[p].unwritten); P[p].reclaimed = 1 }
  lock_mapping(vm); /* AddressSpace::remove_frozen */
  promise(frozen_is_reclaims, P[p].mapping == vm); /* CACHE_DCHECK in remove_frozen */
  unlink(p, vm);
#ifdef MUT_NO_NOTIFY
  unlock_mapping(vm);
#elif defined(MUT_NOTIFY_AFTER_UNLOCK)
  unlock_mapping(vm);
  d_step { assert_mapping_alive(vm); removed_cv[vm] = 0 }
#else
  removed_cv[vm] = 0;
  unlock_mapping(vm);
#endif
  vm = 0;
#ifdef MUT_FREE_AT_REMOVAL
  run_free_page(p);
#endif
  free_removed(p)
}

inline reclaim_one() { /* PageCache::reclaim_step with one page, ReclaimLists::take */
  lock(lru);
  if
  :: P[1].on_lru -> pg = 1
  :: P[2].on_lru -> pg = 2
  :: !P[1].on_lru && !P[2].on_lru -> pg = 0
  fi;
  ok = (pg != 0);
  if
  :: pg != 0 && P[pg].private -> owner_agrees(pg)
  :: else
  fi;
  if
  :: ok -> freeze(pg, ok)
  :: else
  fi;
  if
  :: ok -> P[pg].on_lru = 0
  :: else
  fi;
  unlock(lru);
  if
  :: ok -> finish_victim(pg)
  :: else
  fi;
  d_step { pg = 0; ok = 0; last = 0 }
}

/* ------------------------------------------------------------------------------ threads -------- */

/* Each is compiled only for the scenarios that run it: the checker is C code that takes its time. */

#define LOCALS                                                                      \
  byte pg, fresh, before, steps, result, at, snap1, snap2, floor_then, vm, gone, noted, got_version; \
  bit ok, last, got, woken, now, created, done

inline thread_ends() { d_step { running--; pg = 0 } }

#if SCENARIO == LOOKUP_HIT || SCENARIO == LOOKUP_MISS || SCENARIO == TEARDOWN || \
    SCENARIO == FILL_TWICE || SCENARIO == DIRTY
proctype Reclaimer(byte times) {
  LOCALS;
  do
  :: times == 0 -> break
  :: else -> reclaim_one(); times--
  od;
  skip;
  thread_ends()
}
#endif

/* Looks a key up, reads, lets go. `must`: the page is in the index all the while. */
#if SCENARIO == LOOKUP_HIT || SCENARIO == LOOKUP_MISS
proctype Finder(byte m; byte k; bit must) {
  LOCALS;
  find(m, k);
  if
  :: pg != 0 -> still_own(pg, m, k); put(pg)
  :: else -> promise(miss_is_true, !must)
  fi;
  thread_ends()
}
#endif

/* Reads through a key: finds or fills. The answer may have been asked for before the page was made
 * (DirCore: one answer, many arrays), so the sequence is noted first of all. */
#if SCENARIO == LOOKUP_HIT || SCENARIO == LOOKUP_MISS || SCENARIO == TEARDOWN || \
    SCENARIO == FILL_TWICE || SCENARIO == FILL_CHANGE
proctype Filler(byte m; byte k; byte times) {
  LOCALS;
  do
  :: times == 0 -> break
  :: else ->
#ifdef MUT_NOTE_AFTER_ASK
     got_version = remote;
     noted = sequence[m];
#else
     noted = sequence[m];
     got_version = remote;
#endif
     grab(m, k);
     if
     :: pg == 0 /* no memory */
     :: else ->
        still_own(pg, m, k);
        if
        :: created -> P[pg].version = got_version; fill_done(pg, m, noted)
        :: else ->
           if :: P[pg].locked -> wait_clear(pg, P[pg].locked) :: else fi; /* wait_unlocked */
           promise(read_is_fresh, !P[pg].uptodate || P[pg].version >= floor_then)
        fi;
        put(pg)
     fi;
     d_step { times--; noted = 0; got_version = 0; created = 0; pg = 0; now = 0; floor_then = 0 }
  od;
  skip;
  thread_ends()
}
#endif

/* A change at the remote, and what tells of it: AddressSpace::invalidate_all. */
#if SCENARIO == FILL_CHANGE
proctype Changer(byte m; byte k) {
  LOCALS;
  remote++;
  remove_range(m);
  floor = remote;
  find(m, k);
  if
  :: pg != 0 ->
     promise(read_is_fresh, !P[pg].uptodate || P[pg].version >= floor_then);
     put(pg)
  :: else
  fi;
  thread_ends()
}
#endif

/* AddressSpace::remove by a pin holder. */
#if SCENARIO == LOOKUP_HIT || SCENARIO == FILL_CHANGE
proctype Remover(byte m; byte k) {
  LOCALS;
  find(m, k);
  if
  :: pg != 0 ->
     remove_page(pg, m);
     if :: now -> forget(pg, 0) :: else fi;
     put(pg)
  :: else
  fi;
  thread_ends()
}
#endif

/* AddressSpace::~AddressSpace. */
#if SCENARIO == TEARDOWN
proctype Destroyer(byte m) {
  LOCALS;
  remove_range(m);
  lock_mapping(m);
#ifndef MUT_TEARDOWN_NO_WAIT
  do
  :: (P[1].in_tree && P[1].mapping == m) || (P[2].in_tree && P[2].mapping == m) ->
     d_step { removed_cv[m] = removed_cv[m] | me; mutex[m] = 0 }
     (removed_cv[m] & me) == 0;
     lock_mapping(m)
  :: else -> break
  od;
#endif
  unlock_mapping(m);
  alive[m] = 0;
  thread_ends()
}
#endif

/* Holds a pin that init gave it, and drops it at some moment, perhaps after the mapping's end. */
#if SCENARIO == TEARDOWN
proctype Holder(byte p; byte m; byte k) {
  LOCALS;
  still_own(p, m, k);
  put(p);
  thread_ends()
}
#endif

/* make_writable, then write-back of what was dirtied. */
#if SCENARIO == DIRTY
proctype Writer(byte m; byte k) {
  LOCALS;
  find(m, k);
  if
  :: pg != 0 ->
     lock_page(pg); /* AddressSpace::make_writable */
     lock_mapping(m);
     if
     :: P[pg].mapping == m && P[pg].uptodate -> /* Page::mark_dirty */
        d_step { P[pg].dirty = 1; P[pg].unwritten = 1; done = 1 }
     :: else
     fi;
     unlock_mapping(m);
     unlock_page(pg);
     put(pg)
  :: else
  fi;
  if
  :: done ->
     find(m, k);
     promise(dirty_kept, pg != 0);
     lock_page(pg);
     promise(dirty_kept, P[pg].dirty);
     P[pg].writeback = 1; /* AddressSpace::begin_writeback */
     P[pg].dirty = 0;
     unlock_page(pg);
     end_writeback(pg);
     put(pg)
  :: else
  fi;
  thread_ends()
}
#endif

/* AddressSpace::invalidate_pages: its page, and whether it says busy. */
#if SCENARIO == DIRTY
proctype Coherence(byte m; byte k) {
  LOCALS;
  lock_mapping(m);
  sequence[m]++;
  in_the_tree(pg, m, k);
  if
  :: pg != 0 -> try_get(pg, ok); if :: ok :: else -> pg = 0 fi
  :: else
  fi;
  unlock_mapping(m);
  if
  :: pg != 0 -> /* AddressSpace::invalidate_page */
     lock_page(pg);
     if :: P[pg].writeback -> wait_clear(pg, P[pg].writeback) :: else fi;
     now = 0;
     if
     :: P[pg].mapping == m ->
#ifdef MUT_COHERENCE_DROPS_DIRTY
        ok = 1;
#else
        ok = !P[pg].dirty;
#endif
        if
        :: ok -> /* unlink_if: not dirty */
           lock_mapping(m);
#ifdef MUT_COHERENCE_DROPS_DIRTY
           if
           :: P[pg].mapping == m -> unlink(pg, m); now = 1
#else
           if
           :: P[pg].mapping == m && !P[pg].dirty -> unlink(pg, m); now = 1
#endif
           :: else
           fi;
           unlock_mapping(m)
        :: else
        fi
     :: else
     fi;
     if
     :: now -> promise(dirty_kept, !P[pg].unwritten); forget(pg, 1)
     :: else
     fi;
     unlock_page(pg);
     put(pg)
  :: else
  fi;
  thread_ends()
}
#endif

/* Locks and unlocks a page that init pinned for it. */
#if SCENARIO == WAITS
proctype Locker(byte p; byte times) {
  LOCALS;
  do
  :: times == 0 -> break
  :: else -> lock_page(p); unlock_page(p); times--
  od;
  skip;
  thread_ends()
}
#endif
#if SCENARIO == WAITS
proctype WritebackEnds(byte p) {
  LOCALS;
  end_writeback(p);
  thread_ends()
}
#endif
#if SCENARIO == WAITS
proctype WritebackWaiter(byte p) {
  LOCALS;
  if :: P[p].writeback -> wait_clear(p, P[p].writeback) :: else fi; /* PageCache::wait_writeback */
  assert(!P[p].writeback);
  thread_ends()
}
#endif

/* ------------------------------------------- an allocation's reclaim, page_cache.cc ------------- */

byte room;          /* what the pool could give */
byte listed = 2;    /* pages on the lists, all of which can be taken */
byte victims;       /* PageCache::victims_ */
byte victims_freed; /* PageCache::victims_freed_ */
bit victims_mutex;
byte victims_cv;

/* PageCache::with_reclaim, one unit. Two pages can be taken, two threads need one each. */
#if SCENARIO == VICTIMS
proctype Allocator() {
  byte taken, seen;
  bit got, given_up, again;
  do
  :: d_step { got = (room > 0); room = room - got }
     if
     :: got || given_up -> break
     :: else
     fi;
     lock(lru); /* reclaim_step: takes a batch, and counts it before the lists' mutex goes */
     d_step { taken = listed; listed = 0 }
#ifdef MUT_VICTIMS_COUNTED_LATE
     unlock(lru);
     lock(victims_mutex); victims = victims + taken; unlock(victims_mutex);
#else
     lock(victims_mutex); victims = victims + taken; unlock(victims_mutex);
     unlock(lru);
#endif
     if
     :: taken > 0 -> /* finish_victims */
        room++;
        if :: taken == 2 -> room++ :: else fi;
        lock(victims_mutex);
        d_step { victims = victims - taken; victims_freed++ }
#ifndef MUT_FREED_NO_NOTIFY
        victims_cv = 0;
#endif
        unlock(victims_mutex)
     :: else -> /* wait_for_victims */
        lock(victims_mutex);
        again = (victims > 0);
        if
        :: again ->
           seen = victims_freed;
           do
           :: victims_freed != seen -> break
           :: else ->
              d_step { victims_cv = victims_cv | me; victims_mutex = 0 }
              (victims_cv & me) == 0;
              lock(victims_mutex)
           od
        :: else -> given_up = 1 /* one more attempt, at the end of with_reclaim */
        fi;
        unlock(victims_mutex)
     fi
  od;
  promise(room_found, got);
  running--
}
#endif

/* ------------------------------------------------------- the background reclaimer --------------- */

byte available = 2; /* must_start below 2, may_stop at 2 */
bit wanted;         /* PageCache::reclaim_wanted_ */
bit reclaimer_mutex, stopping;
byte wake_cv;

#if SCENARIO == BACKGROUND
proctype Consumer(byte times) { /* with_reclaim's success: allocate, then look at the watermark */
  bit was;
  do
  :: times == 0 -> break
  :: else ->
     available--;
     if
     :: available < 2 -> /* wake_reclaimer */
        d_step { was = wanted; wanted = 1 }
        if
        :: was
        :: else -> lock(reclaimer_mutex); wake_cv = 0; unlock(reclaimer_mutex)
        fi
     :: else
     fi;
     times--
  od;
  running--
}
#endif

#if SCENARIO == BACKGROUND
proctype Background() { /* PageCache::run_reclaimer */
  do
  :: lock(reclaimer_mutex);
     do
     :: stopping || wanted -> break
     :: else ->
        d_step { wake_cv = wake_cv | me; reclaimer_mutex = 0 }
        (wake_cv & me) == 0;
        lock(reclaimer_mutex)
     od;
     if
     :: stopping -> unlock(reclaimer_mutex); break
     :: else -> unlock(reclaimer_mutex)
     fi;
#ifdef MUT_WANTED_CLEARED_LAST
     do :: available < 2 -> available++ :: else -> break od;
     wanted = 0
#else
     wanted = 0;
     do :: available < 2 -> available++ :: else -> break od
#endif
  od;
  running--
}
#endif

/* -------------------------------------------------------------------------- scenarios ---------- */

inline resident(p, m, k, pins) { /* an uptodate page of the mapping, as grab and fill_done leave it */
  P[p].life = 1; P[p].added = 1; P[p].count = 1 + pins; P[p].held = pins;
  P[p].uptodate = 1; P[p].version = 1; P[p].mapping = m; P[p].key = k;
  P[p].in_tree = 1; P[p].on_lru = 1; P[p].next = head[bucket_of(k)]; head[bucket_of(k)] = p
}
inline unused(p) { P[p].on_free = 1; P[p].freed = 1; P[p].gone = 1 }

inline pages_at_rest(p) {
  assert(P[p].in_tree == (P[p].mapping != 0));
  promise(free_once, P[p].in_tree || P[p].freed);
  assert(P[p].in_tree || P[p].on_free);
  promise(mapping_alive, !P[p].in_tree || alive[P[p].mapping])
}

init {
  atomic {
    alive[1] = 1; alive[2] = 1;
#if SCENARIO == LOOKUP_HIT
    /* Page 1 goes, and comes back under the key of the other chain, or under its own. */
    resident(2, 1, 2, 1); resident(1, 1, 0, 0);
    running = 4;
    run Finder(1, 0, 0); run Reclaimer(1); run Filler(1, 1, 1); run Remover(1, 0)
#elif SCENARIO == LOOKUP_MISS
    /* The same; page 2, which is looked for, stays where it is, behind page 1 in the chain. */
    resident(2, 1, 2, 1); resident(1, 1, 0, 0);
    running = 3;
    run Finder(1, 2, 1); run Reclaimer(1); run Filler(1, 1, 1)
#elif SCENARIO == TEARDOWN
    /* Mapping 1 ends under reclaim, and under a reader who holds one of its pages; mapping 2 takes
     * the descriptors over. */
    resident(1, 1, 0, 0); resident(2, 1, 1, 1);
    running = 4;
    run Destroyer(1); run Reclaimer(2); run Holder(2, 1, 1); run Filler(2, 0, 1)
#elif SCENARIO == FILL_TWICE
    /* Two want one key, and reclaim takes it from them. */
    unused(1); unused(2);
    running = 3;
    run Filler(1, 0, 1); run Filler(1, 0, 1); run Reclaimer(1)
#elif SCENARIO == FILL_CHANGE
    /* A fill, while the remote changes and somebody removes the page. */
    unused(1); unused(2);
    running = 3;
    run Filler(1, 0, 1); run Changer(1, 0); run Remover(1, 0)
#elif SCENARIO == DIRTY
    resident(1, 1, 0, 0); unused(2); P[1].private = 1;
    running = 3;
    run Writer(1, 0); run Reclaimer(2); run Coherence(1, 0)
#elif SCENARIO == WAITS
    /* One page with a lock and write-back, and those who wait for either. */
    resident(1, 1, 0, 4); unused(2); P[1].writeback = 1;
    running = 4;
    run Locker(1, 2); run Locker(1, 1); run WritebackEnds(1); run WritebackWaiter(1)
#elif SCENARIO == VICTIMS
    running = 2;
    run Allocator(); run Allocator()
#else
    running = 3;
    run Background(); run Consumer(2); run Consumer(1)
#endif
  }
#if SCENARIO == BACKGROUND
  /* Nobody can take a step but the end: now the reclaimer may not have overslept. */
  timeout;
  promise(background_awake, running == 1 && available >= 2);
  d_step { stopping = 1; wake_cv = 0 }
#endif
  running == 0;
#if HAS_PAGES
  /* At rest: what is not in a tree has been freed. */
  d_step {
    pages_at_rest(1); pages_at_rest(2)
  }
#endif
}
