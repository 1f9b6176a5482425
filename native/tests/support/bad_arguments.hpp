// Tables of bad arguments: each case spoils one field of a good call. The call must fail, name the field, and write
// nothing.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "moekernels.h"
#include "tests/support/context.hpp"

namespace moek::test {

template <class Args>
struct BadArgument {
    std::string what;
    std::function<void(Args&)> spoil;
    std::string text;  // a part of the error text: the argument and what was got
    moek_status status = MOEK_STATUS_CODE_INVALID_ARGUMENT;
};

// `call` runs one function with the args; `untouched` tells whether the outputs are as they were.
template <class Args>
void expect_all_rejected(
    const Args& good, const std::vector<BadArgument<Args>>& cases, const std::function<moek_status(const Args&)>& call,
    const std::function<bool()>& untouched = [] { return true; }) {
    for (const BadArgument<Args>& bad : cases) {
        SCOPED_TRACE(bad.what);
        Args args = good;
        bad.spoil(args);
        EXPECT_EQ(call(args), bad.status);
        EXPECT_NE(last_error().find(bad.text), std::string::npos) << last_error();
        EXPECT_TRUE(untouched());
    }
    EXPECT_EQ(call(good), MOEK_STATUS_CODE_OK) << "the unspoilt call: " << last_error();
}

}  // namespace moek::test
