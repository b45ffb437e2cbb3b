// SPDX-License-Identifier: MIT
/*
 * kvm-layout.h can be used from C++: every function is called once.
 */
#include <cerrno>
#include <cstdint>
#include <cstdio>

#include "kvm-layout.h"
#include "kvm_fake.h"
#include "tap.h"

namespace {

constexpr std::uint64_t page = KVM_LAYOUT_PAGE_SIZE;

kvm_userspace_memory_region region(std::uint32_t slot, std::uint64_t first,
				   std::uint64_t nr, std::uint32_t flags)
{
	kvm_userspace_memory_region r = kvm_userspace_memory_region();

	r.slot = slot;
	r.flags = flags;
	r.guest_phys_addr = first * page;
	r.memory_size = nr * page;
	r.userspace_addr = 0x7f0000000000 + first * page;
	return r;
}

/* A VMM of one address space. */
class Vmm {
public:
	Vmm() : layout(kvm_layout_new(0, 0, 32))
	{
		kvm_model_init(&model, 0);
		kvm_fake_start(&model);
		opened = !kvm_layout_host_open(kvm_fake.vm_fd, &host);
	}

	~Vmm()
	{
		kvm_layout_host_close(&host);
		kvm_layout_free(layout);
		kvm_fake_stop();
		kvm_model_fini(&model);
	}

	Vmm(const Vmm &) = delete;
	Vmm &operator=(const Vmm &) = delete;

	bool create(const kvm_userspace_memory_region &slot)
	{
		return !kvm_model_set_region(&model, &slot) &&
		       !kvm_layout_add(layout, &slot);
	}

	bool is_up_to_date() const
	{
		return kvm_model_is(&model, layout);
	}

	kvm_layout_host host;
	kvm_layout *layout;
	bool opened;

private:
	kvm_model model;
};

unsigned int nr_after;

void after(void *, const kvm_layout_step *, const std::uint64_t *)
{
	nr_after++;
}

bool walk(Vmm &vmm, const struct kvm_layout_plan *plan)
{
	std::size_t nr;
	const kvm_layout_step *steps = kvm_layout_plan_steps(plan, &nr);

	for (std::size_t i = 0; i < nr; i++)
		if (kvm_layout_step_call(&vmm.host, &steps[i], nullptr) ||
		    kvm_layout_step_done(vmm.layout, &steps[i]))
			return false;
	return nr > 0;
}

void look_at(const struct kvm_layout_plan *plan)
{
	std::size_t nr_gaps, nr_moves;

	kvm_layout_plan_gaps(plan, &nr_gaps);
	kvm_layout_plan_moves(plan, &nr_moves);
	tap_ok(!kvm_layout_plan_blinks(plan) && !nr_gaps && nr_moves == 2,
	       "C++: a plan");
	std::FILE *null = std::fopen("/dev/null", "w");
	tap_ok(null && !kvm_layout_plan_print(plan, null), "C++: print");
	if (null)
		std::fclose(null);
}

void plans()
{
	const kvm_userspace_memory_region ram = region(3, 0, 8, 0);
	const kvm_userspace_memory_region come[] = {
		region(0, 0, 2, 0),
		region(0, 4, 4, KVM_MEM_READONLY),
	};
	kvm_layout_hooks hooks = kvm_layout_hooks();
	struct kvm_layout_plan *plan, *back;
	std::size_t nr, done;
	Vmm vmm;

	tap_ok(vmm.opened && vmm.host.ops == KVM_LAYOUT_ALL_OPS,
	       "C++: a host");
	tap_ok(vmm.create(ram), "C++: a slot");
	if (!tap_ok(!kvm_layout_plan(&vmm.host, vmm.layout, &ram.slot, 1, come,
				     2, KVM_LAYOUT_PARTITION, &plan),
		    "C++: make a plan"))
		return;
	look_at(plan);
	hooks.after = after;
	tap_ok(!kvm_layout_apply(&vmm.host, vmm.layout, plan, &hooks, &done) &&
	       done == nr_after && vmm.is_up_to_date(), "C++: apply");
	kvm_layout_plan_free(plan);

	const kvm_userspace_memory_region *slots =
		kvm_layout_slots(vmm.layout, &nr);
	const std::uint32_t gone[] = { slots[0].slot, slots[1].slot };

	tap_ok(nr == 2 && kvm_layout_at(vmm.layout, 4 * page) ==
	       kvm_layout_find(vmm.layout, gone[1]), "C++: find slots");
	if (!tap_ok(!kvm_layout_plan(&vmm.host, vmm.layout, gone, 2, &ram, 1,
				     KVM_LAYOUT_MAP, &back), "C++: and back"))
		return;
	tap_ok(walk(vmm, back) && vmm.is_up_to_date(), "C++: step by step");
	kvm_layout_plan_free(back);
}

void bookkeeping()
{
	const kvm_userspace_memory_region ram = region(3, 0, 8, 0);
	std::uint64_t gpa;
	Vmm vmm;

	kvm_layout_add(vmm.layout, &ram);
	kvm_layout *copy = kvm_layout_copy(vmm.layout);
	tap_ok(!kvm_layout_ring_gpa(copy, nullptr, 3, 7, &gpa) &&
	       gpa == 7 * page, "C++: an entry of a ring");
	tap_ok(!kvm_layout_remove(copy, 3) && kvm_layout_find(vmm.layout, 3),
	       "C++: a copy");
	kvm_layout_free(copy);
}

void resize()
{
	kvm_userspace_memory_region ram = region(3, 0, 8, 0);
	Vmm vmm;

	tap_ok(vmm.create(ram) &&
	       !kvm_layout_resize(&vmm.host, &ram, 4 * page, nullptr) &&
	       ram.memory_size == 4 * page, "C++: resize");
}

} // namespace

int main()
{
	plans();
	bookkeeping();
	resize();
	return tap_end();
}
