// SPDX-License-Identifier: MIT
/*
 * Plans for what QEMU was recorded to do to memslots: only what is replaced is
 * ever missing, there and back.
 *
 * transactions FILE
 *
 * The first lines of qemu-transactions.txt say how such a file is written.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "tap.h"
#include "walk.h"

#define MAX_REGIONS	32
#define MAX_NAME	80

typedef struct kvm_userspace_memory_region region_t;

/**
 * struct recorded - a transaction of the file
 * @name: what it is called there
 * @nr: which one it is
 * @gone: slots that go
 * @nr_gone: how many
 * @come: what comes
 * @nr_come: how many
 */
struct recorded {
	char name[MAX_NAME];
	unsigned int nr;
	region_t gone[MAX_REGIONS];
	size_t nr_gone;
	region_t come[MAX_REGIONS];
	size_t nr_come;
};

static const char *file;
static unsigned int line_nr;

static void bad_line(void)
{
	fprintf(stderr, "%s:%u: not understood\n", file, line_nr);
	exit(2);
}

static struct transition *to_transition(struct recorded *recorded, bool back,
					enum kvm_layout_mode mode)
{
	struct transition t = {
		.nr_ids = 100,
		.ops = KVM_LAYOUT_ALL_OPS,
		.max_pieces = 64,
		.mode = mode,
		.slots = back ? recorded->come : recorded->gone,
		.nr_slots = back ? recorded->nr_come : recorded->nr_gone,
		.come = back ? recorded->gone : recorded->come,
		.nr_come = back ? recorded->nr_gone : recorded->nr_come,
	};

	t.nr_gone = t.nr_slots;
	for (size_t i = 0; i < t.nr_slots; i++)
		t.slots[i].slot = i;
	return transition_copy(&t);
}

/* Return: the bytes that are missing for a while, replaced or not */
static uint64_t missing(const struct kvm_layout_plan *plan, bool replaced)
{
	const struct kvm_layout_gap *gaps;
	uint64_t size = 0;
	size_t nr;

	gaps = kvm_layout_plan_gaps(plan, &nr);
	for (size_t i = 0; i < nr; i++)
		if (gaps[i].replaced == replaced)
			size += gaps[i].size;
	return size;
}

static void print_bad(void)
{
	for (int i = 0; i < NR_PROPERTIES; i++) {
		if (!(judge_failed() & 1U << i))
			continue;
		tap_note("'%s' does not hold", judge_name(i));
		tap_lines(judge_example(i));
	}
}

static void print_costs(const struct transition *t,
			const struct kvm_layout_plan *plan,
			const struct walked *walked)
{
	tap_note("%zu steps, %lu swaps, %llx bytes replaced", walked->nr_steps,
		 walked->nr_swaps, (unsigned long long)missing(plan, true));
	tap_note("delete and create: %zu steps, %zu swaps",
		 t->nr_gone + t->nr_come, 2 * t->nr_gone + t->nr_come);
}

/* Return: how many steps there are */
static size_t try(struct recorded *recorded, bool back,
		  enum kvm_layout_mode mode)
{
	struct transition *t = to_transition(recorded, back, mode);
	struct kvm_layout *layout = transition_layout(t);
	struct kvm_layout_plan *plan = NULL;
	struct walked walked = { 0 };
	bool holds;

	judge_reset();
	holds = layout && !transition_plan(t, layout, &plan);
	if (holds) {
		walk(t, plan, &walked);
		holds = walked.arrived && !judge_failed() &&
			!missing(plan, false);
	}
	tap_ok(holds, "%u: %s%s, %s", recorded->nr, recorded->name,
	       back ? " undone" : "",
	       mode == KVM_LAYOUT_MAP ? "map" : "partition");
	if (plan)
		print_costs(t, plan, &walked);
	print_bad();
	judge_subject(NULL, NULL);
	kvm_layout_plan_free(plan);
	kvm_layout_free(layout);
	transition_free(t);
	return walked.nr_steps;
}

static void finish(struct recorded *recorded)
{
	if (!recorded->nr)
		return;
	for (int back = 0; back < 2; back++) {
		size_t partition, map;

		partition = try(recorded, back, KVM_LAYOUT_PARTITION);
		map = try(recorded, back, KVM_LAYOUT_MAP);
		tap_ok(map <= partition, "%u: %s%s, a map takes no more steps",
		       recorded->nr, recorded->name, back ? " undone" : "");
	}
}

static void start(struct recorded *recorded, const char *name)
{
	unsigned int nr = recorded->nr;

	finish(recorded);
	memset(recorded, 0, sizeof(*recorded));
	recorded->nr = nr + 1;
	snprintf(recorded->name, sizeof(recorded->name), "%s", name);
}

static void read_region(const char *line, region_t *regions, size_t *nr)
{
	unsigned long long gpa, size, offset;
	unsigned int flags;
	char where;

	if (sscanf(line + 1, " %llx %llx %c+%llx %x", &gpa, &size, &where,
		   &offset, &flags) != 5 || !islower((unsigned char)where) ||
	    *nr == MAX_REGIONS)
		bad_line();
	regions[*nr] = (region_t) {
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = ((uint64_t)(where - 'a' + 1) << 40) + offset,
	};
	++*nr;
}

static void read_line(char *line, struct recorded *recorded)
{
	static const char mark[] = "transaction ";

	line[strcspn(line, "#\n")] = 0;
	for (size_t n = strlen(line); n && isspace((unsigned char)line[n - 1]);)
		line[--n] = 0;
	if (!*line)
		return;
	if (!strncmp(line, mark, sizeof(mark) - 1))
		start(recorded, line + sizeof(mark) - 1);
	else if (*line == '-' && recorded->nr)
		read_region(line, recorded->gone, &recorded->nr_gone);
	else if (*line == '+' && recorded->nr)
		read_region(line, recorded->come, &recorded->nr_come);
	else
		bad_line();
}

int main(int argc, char **argv)
{
	static struct recorded recorded;
	size_t size = 0;
	char *line = NULL;
	FILE *from;

	if (argc != 2) {
		fprintf(stderr, "usage: transactions FILE\n");
		return 2;
	}
	file = argv[1];
	from = fopen(file, "r");
	if (!from) {
		perror(file);
		return 2;
	}
	while (getline(&line, &size, from) >= 0) {
		line_nr++;
		read_line(line, &recorded);
	}
	finish(&recorded);
	free(line);
	fclose(from);
	tap_ok(recorded.nr, "%u transactions", recorded.nr);
	judge_end();
	return tap_end();
}
