#include <cstddef>
#include <cstring>
#include <string>

#include "core/check.hpp"
#include "core/struct_fields.inc"
#include "moekernels.h"

namespace {

// A row without a field name describes the struct itself.
struct Layout {
    const char* struct_name;
    const char* field_name;
    size_t offset;
    size_t size;
};

#define MOEK_STRUCT_ROW(type) {#type, "", 0, sizeof(type)},
#define MOEK_FIELD_ROW(type, field) {#type, #field, offsetof(type, field), sizeof(type::field)},
constexpr Layout kLayouts[] = {MOEK_STRUCTS(MOEK_STRUCT_ROW, MOEK_FIELD_ROW)};

}  // namespace

moek_status moek_struct_layout(const char* struct_name, const char* field_name, uint64_t* out_offset,
                               uint64_t* out_size) {
    return moek::guarded("moek_struct_layout", [&] {
        moek::check_not_null("struct_name", struct_name);
        moek::check_not_null("out_offset", out_offset);
        moek::check_not_null("out_size", out_size);
        const char* wanted_field = field_name == nullptr ? "" : field_name;
        bool struct_exists = false;
        for (const Layout& layout : kLayouts) {
            if (std::strcmp(layout.struct_name, struct_name) != 0) continue;
            struct_exists = true;
            if (std::strcmp(layout.field_name, wanted_field) != 0) continue;
            *out_offset = layout.offset;
            *out_size = layout.size;
            return;
        }
        if (!struct_exists) moek::fail_argument("struct_name", struct_name, "the name of a struct of moekernels.h");
        moek::fail_argument("field_name", wanted_field, std::string("the name of a field of ") + struct_name);
    });
}
