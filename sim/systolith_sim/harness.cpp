// The system around a Verilated core: an AXI4 memory over a buffer of the host, an AXI4-Lite
// master, and a clock. One call runs a whole program; there is no Python per cycle.
//
// A cycle: outputs settle (clk = 0), handshakes are sampled, the edge (clk = 1), then the memory
// decides what it drives in the next cycle. Written data appears in memory when its response is
// given, not before, so that a core that reads too early reads what was there before.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "Vcore.h"
#include "memory.h"
#include "observe.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

namespace {

constexpr unsigned BYTES = sizeof(Vcore::m_axi_rdata);
constexpr unsigned SIZE = BYTES == 4 ? 2 : BYTES == 8 ? 3 : BYTES == 16 ? 4 : BYTES == 32 ? 5 : 6;
constexpr unsigned BURSTS = 256;  // requests of one kind the memory holds, a power of two
constexpr unsigned BEATS = 8192;  // written words without response, a power of two
constexpr unsigned IDS = 2;
constexpr unsigned LITE_CYCLES = 100000;  // a register access never takes longer
constexpr unsigned OKAY = 0, SLVERR = 2, DECERR = 3;

struct Burst {
    uint64_t addr;      // of its first word
    uint64_t ready_at;  // first cycle in which it may be answered
    unsigned words;
    unsigned id;
};

struct Beat {
    uint8_t data[BYTES];
    uint64_t strobe;
};

template <typename T, unsigned N>
struct Queue {
    T items[N];
    unsigned head = 0, count = 0;
    bool full() const { return count == N; }
    T& front() { return items[head]; }
    T& at(unsigned i) { return items[(head + i) % N]; }
    void push(const T& item) { items[(head + count++) % N] = item; }
    void pop() { head = (head + 1) % N, count--; }
};

enum Count { READ_WORDS, COMMAND_WORDS, WRITE_WORDS, READ_BURSTS, WRITE_BURSTS, CYCLES, COUNTS };

struct Core;
thread_local Core* running = nullptr;

struct Core {
    VerilatedContext context;
    Vcore* top = nullptr;
#if VM_TRACE
    Trace* trace = nullptr;
#endif
    // Memory
    uint8_t* memory;
    uint64_t base, bytes;
    uint64_t error_low = 0, error_high = 0;
    const Timing timing;
    const uint32_t stall_below;  // of 2^32
    Pace paces[2];
    Pace& read_pace = paces[0];
    Pace& write_pace;
    bool writes_turn = false;  // of those who share a pace
    Rows rows;
#ifdef OBSERVED_TRACKS
    Observer observer;
#endif
    uint64_t random;
    uint64_t cycle = 0;
    uint64_t counts[COUNTS] = {};
    std::string message;
    bool stopped = false;

    Queue<Burst, BURSTS> reads[IDS];
    Queue<Burst, BURSTS> writes;     // addresses whose data is still to come
    Queue<Burst, BURSTS> responses;  // complete, not yet answered
    Queue<Beat, BEATS> beats;
    Queue<bool, BEATS> last_flags;  // of the beats that belong to no address yet
    unsigned unmatched = 0;    // beats that belong to no address yet
    unsigned matched = 0;      // beats of the front of `writes`
    int reading = -1;          // id whose front burst is being answered
    unsigned read_word = 0;    // its next word
    bool ar_stalled = false, aw_stalled = false, w_stalled = false;
    Burst ar_was, aw_was;
    Beat w_was;
    bool w_last_was = false;

    // What the core drove in the cycle before the edge
    bool lite_awready, lite_wready, lite_bvalid, lite_arready, lite_rvalid, irq = false;
    uint32_t lite_rdata, lite_bresp, lite_rresp;

    explicit Core(const Timing& given)
        : timing(given), stall_below(uint32_t(given.backpressure * 4294967295.0)),
          paces{{given.bandwidth_words, given.bandwidth_cycles},
                {given.bandwidth_words, given.bandwidth_cycles}},
          write_pace(paces[given.shared ? 0 : 1]), rows(timing) {}

    void fail(const std::string& text) {
        if (!stopped) message = text + " (cycle " + std::to_string(cycle) + ")";
        stopped = true;
    }

    uint32_t draw() {  // xorshift64*
        random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
        return (random * 0x2545f4914f6cdd1dULL) >> 32;
    }
    bool stall() { return stall_below && draw() < stall_below; }
    uint64_t due(const Burst& burst) {
        return rows.open(burst.addr, burst.words, BYTES, cycle) + timing.latency
               + (timing.jitter ? draw() % (timing.jitter + 1) : 0);
    }
    bool refreshing() const {
        return timing.refresh_interval && cycle % timing.refresh_interval < timing.refresh_cycles;
    }

    unsigned response(uint64_t addr) const {
        if (addr >= error_low && addr < error_high) return SLVERR;
        if (addr < base || addr - base > bytes - BYTES) return DECERR;
        return OKAY;
    }

    void check_burst(const char* channel, const Burst& burst, unsigned size, unsigned type) {
        if (size != SIZE) fail(std::string(channel) + "size must be the bus width");
        if (type != 1) fail(std::string(channel) + "burst must be INCR");
        if ((burst.addr & 4095) + burst.words * BYTES > 4096)
            fail(std::string(channel) + "addr and len must not cross a 4 KB boundary");
    }

    // Sampling: before the edge

    void sample_reads() {
        bool valid = top->m_axi_arvalid, ready = top->m_axi_arready;
        if (ar_stalled || (valid && ready)) {
            Burst burst{top->m_axi_araddr & ~uint64_t(BYTES - 1), 0, top->m_axi_arlen + 1u,
                        top->m_axi_arid};
            if (ar_stalled && (!valid || burst.addr != ar_was.addr || burst.words != ar_was.words
                               || burst.id != ar_was.id))
                fail("arvalid and its payload must be stable until arready");
            if (valid && ready) {
                check_burst("ar", burst, top->m_axi_arsize, top->m_axi_arburst);
                burst.ready_at = due(burst);
                reads[burst.id % IDS].push(burst);
                counts[READ_BURSTS]++;
            }
        }
        ar_stalled = valid && !ready;
        if (ar_stalled)
            ar_was = {top->m_axi_araddr & ~uint64_t(BYTES - 1), 0, top->m_axi_arlen + 1u,
                      top->m_axi_arid};
        if (top->m_axi_rvalid && top->m_axi_rready) {
            counts[reading ? COMMAND_WORDS : READ_WORDS]++;
            if (++read_word == reads[reading].front().words) {
                reads[reading].pop();
                reading = -1;
            }
        }
    }

    void sample_writes() {
        bool valid = top->m_axi_awvalid, ready = top->m_axi_awready;
        if (valid || aw_stalled) {
            Burst burst{top->m_axi_awaddr & ~uint64_t(BYTES - 1), 0, top->m_axi_awlen + 1u,
                        top->m_axi_awid};
            if (aw_stalled && (!valid || burst.addr != aw_was.addr || burst.words != aw_was.words
                               || burst.id != aw_was.id))
                fail("awvalid and its payload must be stable until awready");
            if (valid && ready) {
                check_burst("aw", burst, top->m_axi_awsize, top->m_axi_awburst);
                writes.push(burst);
                counts[WRITE_BURSTS]++;
            }
            aw_was = burst;
        }
        aw_stalled = valid && !ready;

        valid = top->m_axi_wvalid, ready = top->m_axi_wready;
        if (valid || w_stalled) {
            Beat beat;
            memcpy(beat.data, &top->m_axi_wdata, BYTES);
            beat.strobe = top->m_axi_wstrb;
            bool last = top->m_axi_wlast;
            if (w_stalled && (!valid || last != w_last_was || beat.strobe != w_was.strobe
                              || memcmp(beat.data, w_was.data, BYTES)))
                fail("wvalid and its payload must be stable until wready");
            if (valid && ready) {
                // The position of wlast is checked when the address is known.
                beats.push(beat);
                last_flags.push(last);
                unmatched++;
                counts[WRITE_WORDS]++;
                write_pace.spend();
            }
            w_was = beat, w_last_was = last;
        }
        w_stalled = valid && !ready;
        while (unmatched && writes.count) {
            Burst& burst = writes.front();
            unmatched--, matched++;
            bool expected = matched == burst.words;
            if (last_flags.front() != expected) fail("wlast must mark the last word of a burst");
            last_flags.pop();
            if (expected) {
                burst.ready_at = due(burst);
                responses.push(burst);
                writes.pop();
                matched = 0;
            }
        }
    }

    // Driving: after the edge, for the next cycle

    void drive_reads(bool taken) {
        if (top->m_axi_rvalid && !taken) return;  // stays until it is taken
        if (reading < 0) {
            for (unsigned id = 0; id < IDS; id++) {
                if (!reads[id].count || reads[id].front().ready_at > cycle) continue;
                bool better = reading < 0
                              || (timing.jitter ? draw() & 1
                                                : reads[id].front().ready_at
                                                      < reads[reading].front().ready_at);
                if (better) reading = id;
            }
            read_word = 0;
        }
        top->m_axi_rvalid = 0;
        if (reading < 0 || !read_pace.ready() || refreshing() || stall()) return;
        if (timing.shared) {
            // AXI lets no output depend on an input of the same cycle, so that wvalid stands.
            writes_turn = !writes_turn && top->m_axi_wvalid;
            if (writes_turn) return;
        }
        read_pace.spend();
        const Burst& burst = reads[reading].front();
        uint64_t addr = burst.addr + uint64_t(read_word) * BYTES;
        unsigned code = response(addr);
        if (code == OKAY) memcpy(&top->m_axi_rdata, memory + (addr - base), BYTES);
        else memset(&top->m_axi_rdata, 0xa5, BYTES);
        top->m_axi_rresp = code;
        top->m_axi_rid = reading;
        top->m_axi_rlast = read_word + 1 == burst.words;
        top->m_axi_rvalid = 1;
    }

    void drive_writes() {
        if (top->m_axi_bvalid || !responses.count || responses.front().ready_at > cycle || stall())
            return;
        const Burst& burst = responses.front();
        unsigned code = OKAY;
        for (unsigned i = 0; i < burst.words; i++) {
            const Beat& beat = beats.front();
            uint64_t addr = burst.addr + uint64_t(i) * BYTES;
            unsigned word_code = response(addr);
            if (word_code != OKAY) {
                code = word_code;
            } else {
                uint8_t* target = memory + (addr - base);
                if (beat.strobe == (BYTES == 64 ? ~0ULL : (1ULL << (BYTES % 64)) - 1))
                    memcpy(target, beat.data, BYTES);
                else
                    for (unsigned j = 0; j < BYTES; j++)
                        if (beat.strobe >> j & 1) target[j] = beat.data[j];
            }
            beats.pop();
        }
        top->m_axi_bresp = code;
        top->m_axi_bid = burst.id;
        top->m_axi_bvalid = 1;
        responses.pop();
    }

    void drive_ready() {
        top->m_axi_arready = reads[0].count < BURSTS - 1 && reads[1].count < BURSTS - 1 && !stall();
        top->m_axi_awready = writes.count + responses.count < BURSTS - 1 && !stall();
        top->m_axi_wready = beats.count < BEATS - 1 && write_pace.ready() && !refreshing()
                            && !stall();
    }

    void tick() {
        top->clk = 0;
        top->eval();
#if VM_TRACE
        if (trace) trace->dump(cycle * 10);
#endif
#ifdef OBSERVED_TRACKS
        observer.look(top->observed, cycle);
#endif
        lite_awready = top->s_axil_awready, lite_wready = top->s_axil_wready;
        lite_bvalid = top->s_axil_bvalid, lite_bresp = top->s_axil_bresp;
        lite_arready = top->s_axil_arready, lite_rvalid = top->s_axil_rvalid;
        lite_rdata = top->s_axil_rdata, lite_rresp = top->s_axil_rresp;
        irq = top->irq;
        bool taken = top->m_axi_rvalid && top->m_axi_rready;
        bool answered = top->m_axi_bvalid && top->m_axi_bready;
        bool quiet = top->rst;
        if (!quiet) {
            sample_reads();
            sample_writes();
        }
        top->clk = 1;
        top->eval();
#if VM_TRACE
        if (trace) trace->dump(cycle * 10 + 5);
#endif
        cycle++;
        for (Pace& pace : paces) pace.cycle();
        if (answered) top->m_axi_bvalid = 0;
        if (!quiet) {
            drive_reads(taken);
            drive_writes();
            drive_ready();
        }
    }

    void reset() {
        top->rst = 1;
        top->m_axi_rvalid = top->m_axi_bvalid = 0;
        top->m_axi_arready = top->m_axi_awready = top->m_axi_wready = 0;
        // Inputs start at random where registers do.
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_bready = 0;
        top->s_axil_arvalid = top->s_axil_rready = 0;
        for (auto& queue : reads) queue.count = 0;
        writes.count = responses.count = beats.count = last_flags.count = 0;
        unmatched = matched = 0;
        reading = -1;
        ar_stalled = aw_stalled = w_stalled = false;
        for (int i = 0; i < 4; i++) tick();
        top->rst = 0;
        drive_ready();
    }

    // Register accesses; -1 where the core does not answer.

    int lite_write(uint32_t addr, uint32_t value) {
        top->s_axil_awaddr = addr, top->s_axil_wdata = value, top->s_axil_wstrb = 15;
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_bready = 1;
        for (unsigned i = 0; i < LITE_CYCLES; i++) {
            tick();
            if (lite_awready) top->s_axil_awvalid = 0;
            if (lite_wready) top->s_axil_wvalid = 0;
            if (lite_bvalid) {
                top->s_axil_bready = 0;
                return lite_bresp;
            }
        }
        fail("registers must answer writes");
        return -1;
    }

    int lite_read(uint32_t addr, uint32_t* value) {
        top->s_axil_araddr = addr;
        top->s_axil_arvalid = top->s_axil_rready = 1;
        for (unsigned i = 0; i < LITE_CYCLES; i++) {
            tick();
            if (lite_arready) top->s_axil_arvalid = 0;
            if (lite_rvalid) {
                top->s_axil_rready = 0;
                *value = lite_rdata;
                return lite_rresp;
            }
        }
        fail("registers must answer reads");
        return -1;
    }
};

struct Entered {  // names the core that assertions of this thread belong to
    explicit Entered(Core* core) { running = core; }
    ~Entered() { running = nullptr; }
};

}  // namespace

// Verilator ends the process where an assertion fails, unless these exist.
void vl_stop(const char* file, int line, const char*) {
    if (running) running->fail("assertion at line " + std::to_string(line));
    (void)file;
}
void vl_finish(const char* file, int line, const char* hier) { vl_stop(file, line, hier); }
void vl_fatal(const char* file, int line, const char* hier, const char* text) {
    if (running) running->fail(text);
    else vl_stop(file, line, hier);
}

extern "C" {

void* core_new(uint8_t* memory, uint64_t base, uint64_t bytes, const Timing* timing, uint64_t seed,
               const char* trace_path) {
    Core* core = new Core(*timing);
    Entered entered(core);
    core->memory = memory, core->base = base, core->bytes = bytes;
    core->random = (seed + 1) * 0x9e3779b97f4a7c15ULL;
    core->context.randReset(2);
    core->context.randSeed(int(seed % 2147483646) + 1);
    core->context.traceEverOn(trace_path != nullptr);
    core->top = new Vcore{&core->context, "core"};
#if VM_TRACE
    if (trace_path) {
        core->trace = new Trace;
        core->top->trace(core->trace, 99);
        core->trace->open(trace_path);
    }
#endif
    core->reset();
    return core;
}

void core_free(void* handle) {
    Core* core = static_cast<Core*>(handle);
    Entered entered(core);
    core->top->final();
#if VM_TRACE
    if (core->trace) core->trace->close(), delete core->trace;
#endif
    delete core->top;
    delete core;
}

void core_reset(void* handle) {
    Core* core = static_cast<Core*>(handle);
    Entered entered(core);
    core->stopped = false;
    core->message.clear();
    core->reset();
}

void core_errors(void* handle, uint64_t low, uint64_t high) {
    Core* core = static_cast<Core*>(handle);
    core->error_low = low, core->error_high = high;
}

int core_write(void* handle, uint32_t addr, uint32_t value) {
    Core* core = static_cast<Core*>(handle);
    Entered entered(core);
    return core->lite_write(addr, value);
}

int core_read(void* handle, uint32_t addr, uint32_t* value) {
    Core* core = static_cast<Core*>(handle);
    Entered entered(core);
    return core->lite_read(addr, value);
}

// 1: interrupt; 0: not within max_cycles; -1: an assertion or bus rule failed, see core_message.
int core_run(void* handle, uint64_t max_cycles) {
    Core* core = static_cast<Core*>(handle);
    Entered entered(core);
    for (uint64_t i = 0; i < max_cycles && !core->stopped; i++) {
        core->tick();
        if (core->irq) return core->stopped ? -1 : 1;
    }
    return core->stopped ? -1 : 0;
}

uint64_t core_count(void* handle, int which) {
    Core* core = static_cast<Core*>(handle);
    return which == CYCLES ? core->cycle : core->counts[which];
}

#ifdef OBSERVED_TRACKS

// Stop at so many changes; count pulses over so many cycles.
void core_observe(void* handle, uint64_t limit, uint64_t interval) {
    Core* core = static_cast<Core*>(handle);
    core->observer.limit = limit, core->observer.interval = interval;
}

// One part of what was seen since core_forget, in the order of OBSERVED of harness.py. Returns
// whether the limit was reached.
int core_observed(void* handle, int part, const void** data, uint64_t* count) {
    Core* core = static_cast<Core*>(handle);
    Observer& observer = core->observer;
    observer.stop(core->cycle);
    auto give = [&](const auto& items) { *data = items.data(), *count = items.size(); };
    switch (part) {
        case 0: give(observer.changes); break;
        case 1: give(observer.arrivals); break;
        case 2: give(observer.samples); break;
        case 3: give(observer.starts); break;
        default: give(observer.ends);
    }
    return observer.full;
}

void core_forget(void* handle) { static_cast<Core*>(handle)->observer.clear(); }

#endif

const char* core_message(void* handle) {
    return static_cast<Core*>(handle)->message.c_str();
}

}  // extern "C"
