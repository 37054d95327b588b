import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir

required_conan_version = ">=2.0"


class HlwqConan(ConanFile):
    name = "hlwq"
    description = "Header-only C++20: Hadamard rotation, Lloyd-Max codebooks and packed weights"
    license = "Apache-2.0"
    topics = ("quantization", "simd", "llm", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "with_highway": [True, False],
        "with_xsimd": [True, False],
        "with_threads": [True, False],
        "with_io": [True, False],
    }
    default_options = {"with_highway": False, "with_xsimd": False, "with_threads": True, "with_io": False}
    exports = "include/hlwq/config.hpp"
    exports_sources = "CMakeLists.txt", "LICENSE", "cmake/*", "include/*"
    no_copy_source = True

    def set_version(self):
        text = load(self, os.path.join(self.recipe_folder, "include", "hlwq", "config.hpp"))
        self.version = ".".join(re.findall(r"#define HLWQ_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        if self.options.with_highway:
            self.requires("highway/[>=1.0.3 <2]", transitive_headers=True)
        if self.options.with_xsimd:
            self.requires("xsimd/[>=8.1 <15]", transitive_headers=True)
        if self.options.with_io:
            self.requires("nlohmann_json/[>=3.11 <4]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)
        if self.options.with_highway and self.options.with_xsimd:
            raise ConanInvalidConfiguration("hlwq takes one SIMD backend: with_highway or with_xsimd, not both")

    def package_id(self):
        self.info.clear()  # the headers are the same for every compiler and option

    def generate(self):
        toolchain = CMakeToolchain(self)
        for what in ("TESTS", "BENCH", "EXAMPLES"):
            toolchain.cache_variables[f"HLWQ_BUILD_{what}"] = False
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        rmdir(self, os.path.join(self.package_folder, "share"))  # Conan writes its own CMake and pkg-config files

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "hlwq")
        self._component("hlwq")
        if self.options.with_highway:
            self._component("highway", requires=["hlwq", "highway::hwy"], defines=["HLWQ_SIMD_HIGHWAY"])
        if self.options.with_xsimd:
            self._component("xsimd", requires=["hlwq", "xsimd::xsimd"], defines=["HLWQ_SIMD_XSIMD"])
        if self.options.with_io:
            self._component("io", requires=["hlwq", "nlohmann_json::nlohmann_json"])
        if self.options.with_threads:
            threads = self._component("threads", requires=["hlwq"])
            if self.settings.os in ("Linux", "FreeBSD"):
                threads.system_libs = ["pthread"]

    def _component(self, name, requires=(), defines=()):
        component = self.cpp_info.components[name]
        component.set_property("cmake_target_name", f"hlwq::{name}")
        component.requires = list(requires)
        component.defines = list(defines)
        component.bindirs = []
        component.libdirs = []
        return component
