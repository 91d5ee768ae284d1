// Records what an ObservedCore shows, as changes; see systolith_hw/observe.py for the words.

#pragma once

#include <cstdint>
#include <vector>

#ifdef OBSERVED_TRACKS

struct Change {
    uint64_t cycle;
    uint32_t track, value;
};

struct Arrival {
    uint64_t cycle;
    uint32_t track, unused;
    uint32_t record[16];
};

class Observer {
    static constexpr unsigned TRACKS = OBSERVED_TRACKS, ENGINES = TRACKS - 1;
    static constexpr unsigned PULSES = OBSERVED_PULSES;
    uint32_t last[TRACKS];
    uint32_t counts[PULSES];
    uint64_t sampled = 0;
    bool running = false;

    void finish(uint64_t cycle) {
        ends.push_back(cycle);
        sample(cycle);
        running = false;
    }
    void sample(uint64_t cycle) {
        samples.push_back(sampled);
        for (uint32_t& count : counts) samples.push_back(count), count = 0;
        sampled = cycle;
    }

public:
    uint64_t limit = 0;  // changes to record over all programs
    uint64_t recorded = 0;
    uint64_t interval = 0;
    std::vector<Change> changes;
    std::vector<Arrival> arrivals;
    std::vector<uint64_t> samples;      // first cycle of an interval, and its counts
    std::vector<uint64_t> starts, ends; // of the programs
    bool full = false;

    template <typename Words>
    void look(const Words& words, uint64_t cycle) {
        if (full) return;
        uint32_t flags = words[TRACKS];
        if (!(flags & 1)) {
            if (running) finish(cycle);
            return;
        }
        if (!running) {
            running = true;
            starts.push_back(cycle);
            sampled = cycle;
            for (uint32_t& count : counts) count = 0;
            for (uint32_t& value : last) value = ~0u;
        } else if (recorded >= limit) {
            finish(cycle);
            full = true;
            return;
        }
        if (cycle - sampled == interval) sample(cycle);
        for (unsigned i = 0; i < PULSES; i++) counts[i] += flags >> (8 + i) & 1;
        for (unsigned i = 0; i < TRACKS; i++)
            if (words[i] != last[i]) {
                changes.push_back({cycle, i, last[i] = words[i]});
                recorded++;
            }
        for (unsigned i = 0; i < ENGINES; i++)
            if (flags >> (1 + i) & 1) {
                Arrival arrival{cycle, i, 0, {}};
                for (unsigned j = 0; j < 16; j++)
                    arrival.record[j] = words[TRACKS + 1 + 16 * i + j];
                arrivals.push_back(arrival);
            }
    }
    void stop(uint64_t cycle) {  // the run ended without an end of the program
        if (running) finish(cycle);
    }
    void clear() {
        changes.clear(), arrivals.clear(), samples.clear(), starts.clear(), ends.clear();
    }
};

#endif
