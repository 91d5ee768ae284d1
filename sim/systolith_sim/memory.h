// How fast the simulated memory is: pace of a channel, and rows of DRAM.

#pragma once

#include <cstdint>
#include <vector>

struct Timing {  // TimingStruct of memory.py, which explains every field
    uint32_t latency, jitter, shared;
    uint32_t refresh_interval, refresh_cycles;
    uint32_t banks, row_bytes, miss_cycles;
    uint32_t bandwidth_words, bandwidth_cycles;
    double backpressure;
};

// Lets words pass at exactly `words` in `cycles`: a cycle earns `words`, a word costs `cycles`.
// What is not spent is kept up to one word, so that a pause earns no burst.
class Pace {
    uint64_t gain, cost, credit;

public:
    Pace(uint32_t words, uint32_t cycles) : gain(words), cost(cycles), credit(cycles) {}
    void cycle() {
        if (credit < cost) credit += gain;
    }
    bool ready() const { return credit >= cost; }
    void spend() { credit -= cost; }
};

// Banks with one open row each.
class Rows {
    struct Bank {
        uint64_t row, free_at;
    };
    static constexpr uint64_t NONE = ~uint64_t(0);
    const Timing& timing;
    std::vector<Bank> banks;
    uint64_t refresh = 0;  // number of the last one seen

public:
    explicit Rows(const Timing& timing) : timing(timing), banks(timing.banks, Bank{NONE, 0}) {}

    // First cycle, not before `cycle`, from which on the last row of a burst is open.
    uint64_t open(uint64_t addr, unsigned words, unsigned word_bytes, uint64_t cycle) {
        if (banks.empty()) return cycle;
        if (timing.refresh_interval && cycle / timing.refresh_interval != refresh) {
            refresh = cycle / timing.refresh_interval;
            for (Bank& bank : banks) bank.row = NONE;
        }
        for (uint64_t end = addr + uint64_t(words) * word_bytes; addr < end;) {
            uint64_t row = addr / timing.row_bytes, next = (row + 1) * timing.row_bytes;
            if (next > end) next = end;
            Bank& bank = banks[row % banks.size()];
            if (bank.free_at > cycle) cycle = bank.free_at;
            if (bank.row != row) cycle += timing.miss_cycles;
            bank.row = row;
            bank.free_at = cycle + (next - addr) / word_bytes;
            addr = next;
        }
        return cycle;
    }
};
