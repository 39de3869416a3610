// Operators whose only attribute is a tuple.
#pragma once

#include <memory>

#include "ops/attr_reader.h"

namespace cvm {

struct TupleAttrs : Attrs {
  Tuple items;
};

inline std::unique_ptr<Attrs> parse_tuple(const AttrText& text, const char* key, bool required) {
  auto a = std::make_unique<TupleAttrs>();
  AttrReader in(text);
  if (required)
    in.required(key, &a->items);
  else
    in.optional(key, &a->items);
  in.finish();
  return a;
}

}  // namespace cvm
