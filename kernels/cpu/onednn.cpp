#include "kernels/cpu/onednn.h"

#if !defined(CAIRN_KERNELS_F64)  // oneDNN has no double

#include <omp.h>

#include "kernels/cpu/parallel.h"

namespace cairn::kernels::onednn {

const dnnl::engine& engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

namespace {
// OpenMP keeps the count per thread, and oneDNN asks OpenMP; cairn has one count for the process.
void adopt_thread_count() {
  if (omp_get_max_threads() != num_threads()) omp_set_num_threads(num_threads());
}
}  // namespace

dnnl::stream& stream() {
  adopt_thread_count();
  thread_local dnnl::stream stream(engine());
  return stream;
}

bool has_bf16() {
  static const bool has = [] {
    constexpr int kAvx512 =
        dnnl_cpu_isa_avx512_core;  // ISA values are bit sets that contain what they extend
    return (static_cast<int>(dnnl::get_effective_cpu_isa()) & kAvx512) == kAvx512;
  }();
  return has;
}

dnnl::memory::data_type type_of(DType t) {
  return t == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

dnnl::memory::desc dense(const dnnl::memory::dims& dims, DType type) {
  dnnl::memory::dims strides(dims.size(), 1);
  for (std::size_t i = dims.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
  return {dims, type_of(type), strides};
}

dnnl::memory::desc any_layout(const dnnl::memory::dims& dims, DType type) {
  return {dims, type_of(type), dnnl::memory::format_tag::any};
}

dnnl::memory wrap(const dnnl::memory::desc& desc, const void* data) {
  return {desc, engine(), const_cast<void*>(data)};
}

dnnl::primitive_attr user_scratch() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

void append_relu(dnnl::post_ops& ops) {
#if DNNL_VERSION_MAJOR >= 3
  ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
#else
  ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
#endif
}

Reorder::Reorder(const dnnl::memory::desc& from, const dnnl::memory::desc& to, bool add)
    : from_(from), to_(to) {
  if (from == to && !add) return;
  dnnl::primitive_attr attr = user_scratch();
  if (add) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attr.set_post_ops(ops);
  }
  const dnnl::reorder::primitive_desc desc(engine(), from, engine(), to, attr);
  scratchpad_ = desc.scratchpad_desc();
  primitive_ = dnnl::reorder(desc);
}

void Reorder::run(const void* from, void* to, void* scratchpad) const {
  primitive_.execute(stream(), {{DNNL_ARG_FROM, wrap(from_, from)},
                                {DNNL_ARG_TO, wrap(to_, to)},
                                {DNNL_ARG_SCRATCHPAD, wrap(scratchpad_, scratchpad)}});
}

Key::Key() {
  adopt_thread_count();
  *this << num_threads();
}

Key& Key::operator<<(const Shape& shape) {
  for (int i = 0; i < shape.rank; ++i) *this << shape[i];
  return *this;
}

}  // namespace cairn::kernels::onednn

#endif
