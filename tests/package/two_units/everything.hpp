#pragma once

#include <hlwq/hlwq.hpp>

#include <hlwq/io/checkpoint.hpp>
#include <hlwq/io/file.hpp>
#include <hlwq/io/recipe.hpp>
#include <hlwq/io/safetensors.hpp>
#include <hlwq/thread_pool.hpp>

#include <cstdio>
#include <string_view>
