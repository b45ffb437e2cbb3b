/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_memslot_ops

#if !defined(_MEMSLOT_OPS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _MEMSLOT_OPS_TRACE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memslot_ops.h>
#include <linux/tracepoint.h>

#define show_memslot_op(op)					\
	__print_symbolic(op,					\
			 { KVM_MEMSLOT_OP_GROW, "grow" },	\
			 { KVM_MEMSLOT_OP_SHRINK, "shrink" },	\
			 { KVM_MEMSLOT_OP_SPLIT, "split" },	\
			 { KVM_MEMSLOT_OP_MERGE, "merge" },	\
			 { KVM_MEMSLOT_OP_SET_READONLY, "set_readonly" })

/* An operation was asked for; the VM is named by the process that made it. */
TRACE_EVENT(memslot_op_begin,
	    TP_PROTO(struct kvm *kvm, u32 op, u32 slot),
	    TP_ARGS(kvm, op, slot),
	    TP_STRUCT__entry(__field(pid_t, pid)
			     __field(u32, op)
			     __field(u32, slot)),
	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   __entry->op = op;
			   __entry->slot = slot;),
	    TP_printk("vm %d %s slot %#x", __entry->pid,
		      show_memslot_op(__entry->op), __entry->slot));

/* The new layout is in sight; readers of the old one may be left. */
TRACE_EVENT(memslot_op_swap,
	    TP_PROTO(struct kvm *kvm, u16 as_id, u64 generation),
	    TP_ARGS(kvm, as_id, generation),
	    TP_STRUCT__entry(__field(pid_t, pid)
			     __field(u16, as_id)
			     __field(u64, generation)),
	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   __entry->as_id = as_id;
			   __entry->generation = generation & ~KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS;),
	    TP_printk("vm %d as_id %u generation %llu", __entry->pid,
		      __entry->as_id, __entry->generation));

/* The operation is over; the result is 0 or a negative errno. */
TRACE_EVENT(memslot_op_end,
	    TP_PROTO(struct kvm *kvm, u32 op, u32 slot, int result, u64 duration_ns),
	    TP_ARGS(kvm, op, slot, result, duration_ns),
	    TP_STRUCT__entry(__field(pid_t, pid)
			     __field(u32, op)
			     __field(u32, slot)
			     __field(int, result)
			     __field(u64, duration_ns)),
	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   __entry->op = op;
			   __entry->slot = slot;
			   __entry->result = result;
			   __entry->duration_ns = duration_ns;),
	    TP_printk("vm %d %s slot %#x result %d after %llu ns", __entry->pid,
		      show_memslot_op(__entry->op), __entry->slot,
		      __entry->result, __entry->duration_ns));

#endif /* _MEMSLOT_OPS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
