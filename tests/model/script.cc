// SPDX-License-Identifier: Apache-2.0
#include "tests/model/script.h"

#include <fmt/format.h>

#include <cctype>
#include <cstdlib>
#include <map>
#include <sstream>

namespace layerfs {
namespace {

// How many words a command has at least, its own included.
const std::map<std::string, size_t> kWords{
    {"mkdir", 3},   {"create", 3},  {"symlink", 3},  {"mknod", 6},     {"tmpfile", 4},
    {"link", 3},    {"unlink", 2},  {"rmdir", 2},    {"rename", 3},    {"as", 4},
    {"write", 5},   {"append", 4},  {"put", 3},      {"read", 2},      {"truncate", 3},
    {"sync", 2},    {"copy", 6},    {"seek", 4},     {"fallocate", 5}, {"chmod", 3},
    {"chown", 4},   {"utimes", 4},  {"setxattr", 4}, {"getxattr", 3},  {"removexattr", 3},
    {"setacl", 4},  {"getacl", 3},  {"stat", 2},     {"mode", 2},      {"nlink", 2},
    {"size", 2},    {"list", 2},    {"hold", 3},     {"release", 2},   {"opendir", 3},
    {"readdir", 3}, {"closedir", 2}};

}  // namespace

bool well_formed(const std::vector<std::string>& words) {
  auto it = kWords.find(words[0]);
  return it != kWords.end() && words.size() >= it->second;
}

std::string unescape(const std::string& word) {
  auto hex = [&](size_t at) {
    return static_cast<char>(std::strtoul(word.substr(at, 2).c_str(), nullptr, 16));
  };
  std::string out;
  for (size_t i = 0; i < word.size();) {
    if (word[i] != '%') {
      out += word[i++];
    } else if (word[i + 1] == '*') {
      size_t end = i + 5;
      while (end < word.size() && isdigit(static_cast<unsigned char>(word[end]))) ++end;
      out.append(std::strtoul(word.c_str() + i + 5, nullptr, 10), hex(i + 2));
      i = end;
    } else {
      out += hex(i + 1);
      i += 3;
    }
  }
  return out;
}

std::string escape(std::string_view bytes) {
  std::string out;
  for (unsigned char c : bytes) {
    bool plain = isgraph(c) && c != '%' && c != '#';
    out += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02x}", c);
  }
  return out;
}

std::vector<Command> parse_script(std::string_view text) {
  std::vector<Command> script;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    Command command;
    bool after = false;
    for (std::string word; words >> word;) {
      if (word == "=" && !after) {
        after = true;
      } else if (after) {
        command.expected += (command.expected.empty() ? "" : " ") + word;
      } else {
        command.words.push_back(word);
      }
    }
    if (!command.words.empty()) script.push_back(std::move(command));
  }
  return script;
}

std::string script_text(const std::vector<Command>& script) {
  std::string out;
  for (const Command& command : script) {
    out += fmt::format("{}", fmt::join(command.words, " "));
    if (!command.expected.empty()) out += " = " + command.expected;
    out += '\n';
  }
  return out;
}

}  // namespace layerfs
