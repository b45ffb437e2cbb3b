// SPDX-License-Identifier: GPL-2.0
/*
 * What an operation costs, beside what VMMs do today.
 *
 *	bench [-l GIB] [-n OPERATIONS] [-o OPERATION] [-s] QUESTION...
 *
 * Each line of the output is one measurement, as comma-separated values; the first names
 * the columns, and lines that begin with # say how far it is.  host/bench makes tables and
 * plots of them.  -l: no slot is larger than that.  -n: of the question "many".  -o: only this
 * one, and what undoes it.  -s: for a machine that cannot do all in reasonable time, with fewer
 * repetitions.
 */
#include <getopt.h>
#include <sys/mman.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"

#include "busy.h"
#include "costs.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"
#include "profile.h"

#define MIB		(1UL << 20)
#define GIB		(1UL << 30)

/* How much a slot grows or shrinks; less of a small one. */
#define STEP		(128 * MIB)

#define FLOOR_SLOT	1
#define BENCH_SLOT	2
#define USED_SLOT	99	/* if vCPUs use memory of another slot */
#define OTHER_SLOTS	100
#define BENCH_GPA	(4 * GIB)
#define USED_GPA	(BENCH_GPA - 512 * MIB)
#define BENCH_HVA	((void *)(16 * 1024 * GIB))
#define MAX_PIECES	16

static struct {
	uint64_t largest;
	uint64_t many;
	const char *operation;
	bool quick;
} options = { .largest = UINT64_MAX, .many = 1000000 };

/* ----------------------------------------------------------- what is measured */

enum logging {
	LOG_OFF,
	LOG_CLEAN,
	LOG_DIRTY,		/* vCPUs write to all that they use, again and again */
};

static const char *const log_names[] = { "off", "clean", "dirty" };

struct point {
	const char *question;
	uint64_t size;		/* of the slot */
	uint64_t used;		/* of that, from the start: what vCPUs go through */
	bool elsewhere;		/* what they go through is in another slot */
	enum logging logging;
	int nr_vcpus;		/* that run meanwhile */
	unsigned int nr_slots;	/* besides */
	enum host_pages pages;
	int rounds;
};

struct piece {
	uint32_t slot, flags;
	uint64_t offset, size;
};

struct layout {
	unsigned int nr;
	struct piece piece[MAX_PIECES];
};

struct bench {
	struct point p;
	struct busy *busy;
	struct kvm_vm *vm;
	int dev;
	char *mem;
	size_t mem_size;
	void *log;		/* where KVM_GET_DIRTY_LOG puts it */
	size_t log_size;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000UL + now.tv_nsec;
}

/* CPUs that take turns, as those of an emulator may, are faster where one sleeps. */
static void spin_until(uint64_t ns)
{
	while (now_ns() < ns)
		;
}

/* ------------------------------------------------------------------ the layouts */

static void set_piece(struct bench *b, const struct piece *piece, bool exists)
{
	slot_must_set(b->vm, piece->slot, piece->flags, BENCH_GPA + piece->offset,
		      exists ? piece->size : 0, b->mem + piece->offset);
}

static void get_log(struct bench *b, const struct piece *piece)
{
	if (piece->flags & KVM_MEM_LOG_DIRTY_PAGES)
		kvm_vm_get_dirty_log(b->vm, piece->slot, b->log);
}

/* From one layout to another as it is done without the module. */
static void recreate(struct bench *b, const struct layout *from, const struct layout *to)
{
	unsigned int i;

	for (i = 0; i < from->nr; i++) {
		get_log(b, &from->piece[i]);
		set_piece(b, &from->piece[i], false);
	}
	for (i = 0; i < to->nr; i++)
		set_piece(b, &to->piece[i], true);
}

static struct layout whole(const struct point *p, uint64_t size)
{
	return (struct layout) {
		.nr = 1,
		.piece[0] = {
			.slot = BENCH_SLOT,
			.flags = p->logging ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.size = size,
		},
	};
}

static uint64_t step_of(const struct point *p)
{
	return min_t(uint64_t, STEP, p->size / 4);
}

/* @nr pieces: of the same size, or if two the second as small as a step. */
static struct layout pieces(const struct point *p, unsigned int nr)
{
	struct layout l = { .nr = nr };
	uint64_t offset = 0, size;
	unsigned int i;

	for (i = 0; i < nr; i++, offset += size) {
		size = nr > 2 ? align_down(p->size / nr, HUGE_SIZE) : p->size - step_of(p);
		if (!size)
			size = p->size / nr;
		if (i + 1 == nr)
			size = p->size - offset;
		l.piece[i] = whole(p, size).piece[0];
		l.piece[i].slot += i;
		l.piece[i].offset = offset;
	}
	return l;
}

static struct layout all(const struct point *p)
{
	return whole(p, p->size);
}

static struct layout larger(const struct point *p)
{
	return whole(p, p->size + step_of(p));
}

static struct layout two(const struct point *p)
{
	return pieces(p, 2);
}

static struct layout sixteen(const struct point *p)
{
	return pieces(p, 16);
}

/* At a place where nothing in the slot's arrays begins with a page. */
static struct layout odd(const struct point *p)
{
	struct layout l = { .nr = 2 };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		l.piece[i] = whole(p, i ? p->size - MIB : MIB).piece[0];
		l.piece[i].slot += i;
		l.piece[i].offset = i * MIB;
	}
	return l;
}

static struct layout readonly(const struct point *p)
{
	struct layout l = all(p);

	l.piece[0].flags |= KVM_MEM_READONLY;
	return l;
}

/* ------------------------------------------------------------------ operations */

static int grow(struct bench *b, const struct layout *from, const struct layout *to)
{
	return slot_grow(b->dev, BENCH_SLOT, to->piece[0].size);
}

static int shrink(struct bench *b, const struct layout *from, const struct layout *to)
{
	return slot_shrink(b->dev, BENCH_SLOT, to->piece[0].size, b->p.logging ? b->log : NULL);
}

static int split(struct bench *b, const struct layout *from, const struct layout *to)
{
	struct kvm_memslot_cut cuts[MAX_PIECES] = { 0 };
	unsigned int i;

	for (i = 1; i < to->nr; i++) {
		cuts[i - 1].offset = to->piece[i].offset;
		cuts[i - 1].slot = to->piece[i].slot;
	}
	return slot_split(b->dev, BENCH_SLOT, to->nr - 1, cuts);
}

static int merge(struct bench *b, const struct layout *from, const struct layout *to)
{
	uint32_t slots[MAX_PIECES];
	unsigned int i;

	for (i = 1; i < from->nr; i++)
		slots[i - 1] = from->piece[i].slot;
	return slot_merge(b->dev, BENCH_SLOT, from->nr - 1, slots);
}

static int protect(struct bench *b, const struct layout *from, const struct layout *to)
{
	return slot_set_readonly(b->dev, BENCH_SLOT, true);
}

static int unprotect(struct bench *b, const struct layout *from, const struct layout *to)
{
	return slot_set_readonly(b->dev, BENCH_SLOT, false);
}

/* Two operations that undo each other. */
static const struct pair {
	const char *there, *back;
	struct layout (*from)(const struct point *p);
	struct layout (*to)(const struct point *p);
	int (*go)(struct bench *b, const struct layout *from, const struct layout *to);
	int (*go_back)(struct bench *b, const struct layout *from, const struct layout *to);
	/* What is written to in between would leave the guest. */
	bool protects;
} pairs[] = {
	{ "GROW", "SHRINK", all, larger, grow, shrink },
	{ "SPLIT 2", "MERGE 2", all, two, split, merge },
	{ "SPLIT 16", "MERGE 16", all, sixteen, split, merge },
	{ "SPLIT odd", "MERGE odd", all, odd, split, merge },
	{ "SET_READONLY 1", "SET_READONLY 0", all, readonly, protect, unprotect, true },
};

/* ------------------------------------------------------------------- the ways */

enum method {
	WAY_MODULE,
	WAY_FLAGS,		/* the floor: KVM's own swap, of a small slot with other flags */
	WAY_RECREATE,
	WAY_HOLD,		/* the same with all vCPUs out of KVM_RUN */
	NR_WAYS
};

static const char *const way_names[] = { "module", "flags", "recreate", "hold" };

static void change(struct bench *b, enum method way, const struct pair *pair, bool there,
		   const struct layout *from, const struct layout *to)
{
	int err;

	switch (way) {
	case WAY_MODULE:
		err = (there ? pair->go : pair->go_back)(b, from, to);
		TEST_ASSERT(!err, "%s: %s", there ? pair->there : pair->back, strerror(err));
		break;
	case WAY_FLAGS:
		slot_must_set(b->vm, FLOOR_SLOT, there ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			      BENCH_GPA - GIB, PAGE_SIZE, b->mem);
		break;
	case WAY_HOLD:
		busy_hold(b->busy);
		recreate(b, from, to);
		busy_release(b->busy);
		break;
	default:
		recreate(b, from, to);
	}
}

/* --------------------------------------------------------------- measurements */

/*
 * Always at the same place: what host_map() leaves around one would soon leave none for the
 * largest.
 */
static char *map_memory(size_t size, enum host_pages pages)
{
	char *mem = mmap(BENCH_HVA, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	TEST_ASSERT(mem == BENCH_HVA, "cannot map %#zx bytes", size);
	madvise(mem, size, pages == HOST_PAGES_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return mem;
}

static struct bench *bench_create(const struct point *p, const struct pair *pair, enum method way)
{
	const struct busy_config config = {
		.nr_vcpus = p->nr_vcpus,
		.gpa = p->elsewhere ? USED_GPA : BENCH_GPA,
		.size = p->used,
		.writes = p->logging != LOG_CLEAN && !pair->protects,
		.apart = true,
	};
	struct bench *b = calloc(1, sizeof(*b));
	const struct layout from = pair->from(p);
	unsigned int i;

	b->p = *p;
	b->busy = busy_create(&config);
	b->vm = busy_vm(b->busy);
	b->dev = memslot_ops_open(b->vm);
	b->mem_size = p->size + STEP;
	b->mem = map_memory(b->mem_size, p->pages);
	b->log_size = b->mem_size / PAGE_SIZE / 8 + PAGE_SIZE;
	b->log = host_map(b->log_size, HUGE_SIZE, 0, HOST_PAGES_4K);

	/* A slot that begins to log is not to be protected, which would need a flush. */
	if (way == WAY_FLAGS)
		vm_enable_cap(b->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	slot_must_set(b->vm, FLOOR_SLOT, 0, BENCH_GPA - GIB, PAGE_SIZE, b->mem);
	if (p->elsewhere)
		slot_must_set(b->vm, USED_SLOT, 0, USED_GPA, p->used,
			      b->mem + b->mem_size - p->used);
	for (i = 0; i < p->nr_slots; i++)
		slot_must_set(b->vm, OTHER_SLOTS + i, 0,
			      BENCH_GPA + align_up(b->mem_size, GIB) + 2 * i * PAGE_SIZE,
			      PAGE_SIZE, b->mem);
	set_piece(b, &from.piece[0], true);
	busy_start(b->busy);
	if (p->used)
		busy_wait(b->busy);
	return b;
}

static void bench_free(struct bench *b)
{
	busy_stop(b->busy);
	close(b->dev);
	busy_free(b->busy);
	munmap(b->mem, b->mem_size);
	munmap(b->log, b->log_size);
	free(b);
}

/* Of one operation, from all of its rounds. */
struct series {
	const char *op;
	int nr;
	uint64_t *ns;
	uint64_t faults, flushes;
	struct costs costs;
	bool knows_costs;
};

static struct series series_start(const char *op, int rounds)
{
	return (struct series) { .op = op, .ns = calloc(rounds, sizeof(uint64_t)) };
}

static void take(struct bench *b, struct series *s, enum method way, const struct pair *pair,
		 bool there, const struct layout *from, const struct layout *to)
{
	uint64_t faults = busy_faults(b->busy), flushes = vm_stat(b->vm, "remote_tlb_flush");
	uint64_t start = now_ns();

	change(b, way, pair, there, from, to);
	s->ns[s->nr++] = now_ns() - start;
	s->flushes += vm_stat(b->vm, "remote_tlb_flush") - flushes;
	if (b->p.used)
		busy_wait(b->busy);
	s->faults += busy_faults(b->busy) - faults;
}

/* Once more, with what tells that and takes time. */
static void take_costs(struct bench *b, struct series *s, enum method way, const struct pair *pair,
		       bool there, const struct layout *from, const struct layout *to)
{
	s->knows_costs = costs_start();
	change(b, way, pair, there, from, to);
	if (s->knows_costs)
		s->costs = costs_end();
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b;

	return (x > y) - (x < y);
}

static void print_head(void)
{
	static const char *const columns[] = {
		"question", "operation", "way", "size_mib", "used_mib", "log", "vcpus", "slots",
		"pages", "rounds", "first_ns", "min_ns", "median_ns", "p99_ns", "mean_ns",
		"faults", "flushes", "hold_ns", "alloc_kib", "per_second", "work_pct", "stall_ns",
		"rest_stall_ns", "left_kib",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(columns); i++)
		printf("%s%c", columns[i], i + 1 < ARRAY_SIZE(columns) ? ',' : '\n');
}

static void print_point(const struct point *p, const char *op, enum method way)
{
	printf("%s,%s,%s,%lu,%lu,%s,%d,%u,%s,", p->question, op, way_names[way], p->size / MIB,
	       p->used / MIB, log_names[p->logging], p->nr_vcpus, p->nr_slots,
	       p->pages == HOST_PAGES_THP ? "2M" : "4K");
}

static void series_report(const struct point *p, enum method way, struct series *s)
{
	uint64_t first = s->ns[0], sum = 0;
	int i, n = s->nr;

	for (i = 0; i < n; i++)
		sum += s->ns[i];
	qsort(s->ns, n, sizeof(*s->ns), compare);
	print_point(p, s->op, way);
	printf("%d,%lu,%lu,%lu,%lu,%lu,%.1f,%.1f,", n, first, s->ns[0], s->ns[n / 2],
	       s->ns[n * 99 / 100], sum / n, (double)s->faults / n, (double)s->flushes / n);
	if (s->knows_costs)
		printf("%lu,%lu,,,,,\n", s->costs.longest_hold, s->costs.allocated / 1024);
	else
		printf(",,,,,,\n");
	free(s->ns);
}

/* ------------------------------------------------- how far it is with a question */

static bool counting;
static unsigned int nr_done, nr_all;

/* Whether to measure, or merely to count what is to be measured; @pair is NULL for all. */
static bool progress(const struct point *p, const struct pair *pair)
{
	if (pair && options.operation && strcmp(options.operation, pair->there))
		return false;
	if (counting) {
		nr_all++;
		return false;
	}
	printf("# %s %u %u\n", p->question, nr_done++, nr_all);
	fflush(stdout);
	return true;
}

/* ------------------------------------------------------------------- questions */

/* What is done without the module takes long, because a slot is large or in use. */
static int rounds_of(const struct point *p, enum method way)
{
	if (way == WAY_MODULE || way == WAY_FLAGS)
		return p->rounds;
	return min(p->rounds, p->size <= 1024 * GIB && p->used <= 4 * MIB ? 5 : 3);
}

static void measure_pair(const struct point *p, const struct pair *pair, enum method way)
{
	struct layout from = pair->from(p), to = pair->to(p);
	int rounds = rounds_of(p, way);
	struct series there, back;
	struct bench *b;
	int i;

	/* The floor is the same for all. */
	if (!progress(p, way == WAY_FLAGS ? NULL : pair))
		return;

	b = bench_create(p, pair, way);
	there = series_start(way == WAY_FLAGS ? "flags 1" : pair->there, rounds);
	back = series_start(way == WAY_FLAGS ? "flags 0" : pair->back, rounds);
	for (i = 0; i < rounds; i++) {
		take(b, &there, way, pair, true, &from, &to);
		take(b, &back, way, pair, false, &to, &from);
	}
	take_costs(b, &there, way, pair, true, &from, &to);
	take_costs(b, &back, way, pair, false, &to, &from);
	series_report(p, way, &there);
	series_report(p, way, &back);
	bench_free(b);
}

static void measure(const struct point *p)
{
	unsigned int i;
	enum method way;

	if (p->size > options.largest)
		return;

	for (way = 0; way < NR_WAYS; way++) {
		if (way == WAY_HOLD && !p->nr_vcpus)
			continue;
		for (i = 0; i < (way == WAY_FLAGS ? 1 : ARRAY_SIZE(pairs)); i++)
			measure_pair(p, &pairs[i], way);
	}
}

/* How does the time grow with the slot? */
static void ask_size(void)
{
	static const uint64_t sizes[] = {
		16 * MIB, GIB, 16 * GIB, 256 * GIB, 1024 * GIB, 4096 * GIB, 7936 * GIB,
	};
	struct point p = { .question = "size", .pages = HOST_PAGES_4K,
			   .rounds = options.quick ? 3 : 11 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		p.size = sizes[i];
		for (p.logging = LOG_OFF; p.logging <= LOG_CLEAN; p.logging++)
			measure(&p);
	}
}

/* What of a slot that is in use? */
static void ask_used(void)
{
	/* To map memory takes far longer than what is measured. */
	static const struct {
		enum host_pages pages;
		uint64_t used;
		enum logging most;
	} cases[] = {
		{ HOST_PAGES_4K, 4 * MIB, LOG_DIRTY },
		{ HOST_PAGES_4K, 64 * MIB, LOG_DIRTY },
		{ HOST_PAGES_THP, 64 * MIB, LOG_DIRTY },
		{ HOST_PAGES_THP, GIB, LOG_OFF },
	};
	struct point p = { .question = "used", .size = GIB, .nr_vcpus = 1,
			   .rounds = options.quick ? 3 : 5 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		p.pages = cases[i].pages;
		p.used = cases[i].used;
		for (p.logging = LOG_OFF; p.logging <= cases[i].most; p.logging++)
			measure(&p);
	}
}

/* How, with the number of vCPUs, all of which run? */
static void ask_vcpus(void)
{
	struct point p = { .question = "vcpus", .pages = HOST_PAGES_4K, .size = 16 * GIB,
			   .used = 2 * MIB, .rounds = options.quick ? 5 : 11 };

	for (p.nr_vcpus = 1; p.nr_vcpus <= BUSY_MAX_VCPUS; p.nr_vcpus *= 2)
		measure(&p);
}

/* How, with the number of other slots? */
static void ask_slots(void)
{
	struct point p = { .question = "slots", .pages = HOST_PAGES_4K, .size = GIB,
			   .rounds = options.quick ? 3 : 11 };

	for (p.nr_slots = 1; p.nr_slots <= 30000; p.nr_slots *= p.nr_slots < 10000 ? 10 : 3)
		measure(&p);
}

/* A slot that becomes large in many small steps. */
static void ask_steps(void)
{
	static const uint64_t sizes[] = { GIB, 256 * GIB };
	enum method ways[] = { WAY_MODULE, WAY_RECREATE };
	struct point p = { .question = "steps", .pages = HOST_PAGES_4K };
	struct layout from, to;
	struct series s;
	struct bench *b;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(ways); i++) {
		enum method way = ways[i % 2];

		p.size = sizes[i / 2];
		p.rounds = way == WAY_RECREATE || options.quick ? 20 : 1000;
		if (p.size > options.largest || !progress(&p, &pairs[0]))
			continue;

		b = bench_create(&p, &pairs[0], way);
		s = series_start("GROW", p.rounds);
		from = all(&p);
		while (s.nr < p.rounds) {
			to = whole(&p, from.piece[0].size + STEP);
			take(b, &s, way, &pairs[0], true, &from, &to);
			from = to;
		}
		series_report(&p, way, &s);
		bench_free(b);
	}
}

/* In nanoseconds, how long it is looked at. */
#define WINDOW		300000000UL

struct work {
	double per_ns;
	uint64_t stall;
};

/*
 * What the vCPUs do in a while in which there are so many changes a second, if possible; UINT_MAX
 * is as many as can be. There are as many there as back.
 */
static struct work watch(struct bench *b, enum method way, const struct pair *pair,
			 unsigned int per_second)
{
	struct layout from = pair->from(&b->p), to = pair->to(&b->p);
	uint64_t touches, start, now, done = 0;
	struct work work;

	busy_longest_stall(b->busy);
	touches = busy_touches(b->busy);
	for (start = now = now_ns(); now < start + WINDOW || done % 2; now = now_ns()) {
		if (!per_second) {
			spin_until(start + WINDOW);
			continue;
		}
		if (per_second != UINT_MAX)
			spin_until(start + done * 1000000000 / per_second);
		if (done++ % 2)
			change(b, way, pair, false, &to, &from);
		else
			change(b, way, pair, true, &from, &to);
	}
	work.per_ns = (double)(busy_touches(b->busy) - touches) / (now - start);
	work.stall = busy_longest_stall(b->busy);
	return work;
}

static void report_work(const struct point *p, const char *op, enum method way, const char *rate,
			struct work rest, struct work work)
{
	print_point(p, op, way);
	printf(",,,,,,,,,,%s,%.1f,%lu,%lu,\n", rate, 100 * work.per_ns / rest.per_ns, work.stall,
	       rest.stall);
}

static void watch_pair(const struct point *p, const struct pair *pair, enum method way)
{
	struct work rest;
	struct bench *b;
	char name[100];

	if (!progress(p, pair))
		return;
	b = bench_create(p, pair, way);
	snprintf(name, sizeof(name), "%s%s", pair->there, p->elsewhere ? " unused" : "");
	rest = watch(b, way, pair, 0);
	report_work(p, name, way, "100", rest, watch(b, way, pair, 100));
	report_work(p, name, way, "all", rest, watch(b, way, pair, UINT_MAX));
	bench_free(b);
}

/* What is left of the guest's work while its slots change all the time? */
static void ask_work(void)
{
	struct point p = { .question = "work", .pages = HOST_PAGES_4K, .size = 16 * GIB,
			   .used = 16 * MIB, .nr_vcpus = 2 };
	static const enum method ways[] = { WAY_MODULE, WAY_RECREATE, WAY_HOLD };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pairs) * ARRAY_SIZE(ways); i++) {
		const struct pair *pair = &pairs[i / ARRAY_SIZE(ways)];

		p.elsewhere = false;
		watch_pair(&p, pair, ways[i % ARRAY_SIZE(ways)]);
		/* What is protected has to be mapped anew; VMMs do that to what is hardly used. */
		p.elsewhere = pair->protects;
		if (p.elsewhere)
			watch_pair(&p, pair, ways[i % ARRAY_SIZE(ways)]);
	}
}

/* What CPUs keep on lists of their own is free, too: tens of MiB, now more and now less. */
static long kept_by_cpus(void)
{
	FILE *f = fopen("/proc/zoneinfo", "r");
	long total = 0, pages;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %ld", &pages) == 1)
			total += pages;
	if (f)
		fclose(f);
	return total * (PAGE_SIZE / 1024);
}

/* In KiB, what is neither free nor easily freed. */
static long memory_in_use(void)
{
	static const char *const names[] = { "MemFree", "Cached", "Buffers", "SReclaimable" };
	long total = 0, value;
	char line[256], name[64];
	unsigned int i;
	FILE *f;

	host_write("/proc/sys/vm/drop_caches", "3");
	f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63[^:]: %ld", name, &value) != 2)
			continue;
		if (!strcmp(name, "MemTotal"))
			total += value;
		for (i = 0; i < ARRAY_SIZE(names); i++)
			total -= strcmp(name, names[i]) ? 0 : value;
	}
	if (f)
		fclose(f);
	return total - kept_by_cpus();
}

/* Is memory left behind? */
static void ask_many(void)
{
	struct point p = { .question = "many", .pages = HOST_PAGES_4K, .size = 16 * MIB };
	struct layout from[ARRAY_SIZE(pairs)], to[ARRAY_SIZE(pairs)];
	uint64_t done, warm = 1000;
	struct bench *b;
	unsigned int i;
	long before = 0;

	if (!progress(&p, NULL))
		return;

	b = bench_create(&p, &pairs[0], WAY_MODULE);
	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		from[i] = pairs[i].from(&p);
		to[i] = pairs[i].to(&p);
	}
	for (done = 0; done < warm + options.many; done += 2) {
		if (done == warm)
			before = memory_in_use();
		if (done % 50000 < 2) {
			printf("# many %lu %lu\n", done, options.many);
			fflush(stdout);
		}
		i = done / 2 % ARRAY_SIZE(pairs);
		change(b, WAY_MODULE, &pairs[i], true, &from[i], &to[i]);
		change(b, WAY_MODULE, &pairs[i], false, &to[i], &from[i]);
	}
	print_point(&p, "any", WAY_MODULE);
	printf("%lu,,,,,,,,,,,,,,%ld\n", options.many, memory_in_use() - before);
	bench_free(b);
}

/* What does an operation spend its time on? */
static void profile(struct bench *b, enum method way, const struct pair *pair, bool there,
		    const struct layout *from, const struct layout *to, bool first)
{
	const char *op = there ? pair->there : pair->back;
	char title[100];

	if (!profile_start())
		return;
	change(b, way, pair, there, from, to);
	snprintf(title, sizeof(title), "%s of %lu MiB (log %s; %s%s)", op, b->p.size / MIB,
		 log_names[b->p.logging], way_names[way], first ? ", the first" : "");
	profile_end(title);
}

static void profile_pair(const struct point *p, const struct pair *pair, enum method way)
{
	struct layout from = pair->from(p), to = pair->to(p);
	struct bench *b;
	int i;

	if (!progress(p, pair))
		return;

	b = bench_create(p, pair, way);
	for (i = 0; i < p->rounds; i++) {
		profile(b, way, pair, true, &from, &to, !i);
		profile(b, way, pair, false, &to, &from, !i);
	}
	bench_free(b);
}

static void ask_profile(void)
{
	static const uint64_t sizes[] = { GIB, 16 * GIB };
	static const enum method ways[] = { WAY_MODULE, WAY_RECREATE };
	struct point p = { .question = "profile", .pages = HOST_PAGES_4K, .rounds = 2 };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		p.size = sizes[i];
		for (p.logging = LOG_OFF; p.logging <= LOG_CLEAN; p.logging++) {
			for (j = 0; j < ARRAY_SIZE(pairs) * ARRAY_SIZE(ways); j++)
				profile_pair(&p, &pairs[j / 2], ways[j % 2]);
		}
	}
}

static const struct question {
	const char *name;
	void (*ask)(void);
} questions[] = {
	{ "size", ask_size },
	{ "used", ask_used },
	{ "vcpus", ask_vcpus },
	{ "slots", ask_slots },
	{ "steps", ask_steps },
	{ "work", ask_work },
	{ "many", ask_many },
	{ "profile", ask_profile },
};

static void ask(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(questions); i++) {
		if (strcmp(questions[i].name, name))
			continue;
		nr_done = 0;
		nr_all = 0;
		counting = true;
		questions[i].ask();
		counting = false;
		questions[i].ask();
		return;
	}
	fprintf(stderr, "bench: there is no question %s\n", name);
	exit(2);
}

int main(int argc, char *argv[])
{
	int option;

	while ((option = getopt(argc, argv, "l:n:o:s")) != -1) {
		switch (option) {
		case 'l':
			options.largest = strtoull(optarg, NULL, 0) * GIB;
			break;
		case 'n':
			options.many = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			options.operation = optarg;
			break;
		case 's':
			options.quick = true;
			break;
		default:
			return 2;
		}
	}
	/* Whether a CPU can be had at once is no question of these. */
	kvm_pin_this_task_to_pcpu(0);
	print_head();
	for (; optind < argc; optind++)
		ask(argv[optind]);
	return 0;
}
