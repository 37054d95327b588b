"""Stands for a header library that the system has installed, so that the recipe can be tried without a remote."""
from conan import ConanFile


class SystemHeaders(ConanFile):
    package_type = "header-library"

    def package_info(self):
        self.cpp_info.bindirs = self.cpp_info.libdirs = self.cpp_info.includedirs = []
        if self.name == "highway":  # the one of the three whose target is a component
            self.cpp_info.components["hwy"].includedirs = []
