package fleet

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"mooring/storage"
	"mooring/wire"
)

// StoreReader reads what is stored of a device, and what the books say of it;
// storage.Reader is one.
type StoreReader interface {
	Samples(ctx context.Context, device string, yield func(storage.Sample) error) error
	Books(ctx context.Context, device string) (storage.Books, error)
}

// VerifyOption changes how Verify works.
type VerifyOption func(*verifier)

// MaxProblems is the number of problems that are listed. Defaults to 20.
func MaxProblems(n int) VerifyOption { return func(v *verifier) { v.limit = n } }

// OnDevice is called after each device with how many of all are done.
func OnDevice(report func(done, all int)) VerifyOption {
	return func(v *verifier) { v.report = report }
}

// Verify compares the ledger with what is stored: every acknowledged row is
// there once, with the time and values that were sent, less what the server had
// to refuse; and nothing else is there. Rows sent and not acknowledged may be
// there or not. And the server's own books of these devices must balance, and
// agree with what is stored. Its memory holds one bit for each row of one device.
func Verify(ctx context.Context, reader StoreReader, ledger *Ledger, options ...VerifyOption) (Verdict, error) {
	v := &verifier{plan: ledger.Header.plan(), limit: 20, report: func(int, int) {}}
	for _, option := range options {
		option(v)
	}
	v.channels = v.plan.Layout().Channels
	for index, boots := range ledger.Devices {
		if len(boots) > 0 {
			if err := v.device(ctx, reader, boots); err != nil {
				return Verdict{}, fmt.Errorf("fleet: verify %s: %w", boots[0].Device, err)
			}
		}
		v.report(index+1, len(ledger.Devices))
	}
	d := &v.verdict
	d.Clean = d.Missing+d.Twice+d.Wrong+d.Unexpected+d.NotRefused+d.Refused+d.Unbalanced == 0
	return v.verdict, nil
}

type verifier struct {
	plan     *Plan
	channels []wire.Channel
	limit    int
	report   func(done, all int)
	verdict  Verdict

	expected []wire.Value // scratch
}

// life is a boot with what was found of it.
type life struct {
	*BootRecord

	seen []uint64 // a bit for each row found
}

func (l *life) mark(seq uint64) {
	for uint64(len(l.seen)) <= seq/64 {
		l.seen = append(l.seen, 0)
	}
	l.seen[seq/64] |= 1 << (seq % 64)
}

func (l *life) found(seq uint64) bool {
	return seq/64 < uint64(len(l.seen)) && l.seen[seq/64]&(1<<(seq%64)) != 0
}

// couldBeSent reports whether the boot may have sent this row. Of one that did
// not end, as when the simulator was killed, nobody noted the last rows.
func (l *life) couldBeSent(seq uint64) bool {
	const unnoted = 10_000_000
	if l.Ended {
		return seq < l.Sent
	}
	return seq < l.Sent+unnoted
}

func (v *verifier) device(ctx context.Context, reader StoreReader, boots []*BootRecord) error {
	lives := make([]*life, len(boots))
	for i, boot := range boots {
		lives[i] = &life{BootRecord: boot}
		v.verdict.Boots++
		v.verdict.Sent += boot.Sent
		v.verdict.Acked += boot.Acked
		for _, dropped := range boot.Dropped {
			v.verdict.Given += dropped.n
		}
	}
	v.verdict.Devices++
	before, err := reader.Books(ctx, boots[0].Device)
	if err != nil {
		return err
	}
	stored := int64(0)
	err = reader.Samples(ctx, boots[0].Device, func(sample storage.Sample) error {
		stored++
		v.sample(lives, &sample)
		return nil
	})
	if err != nil {
		return err
	}
	after, err := reader.Books(ctx, boots[0].Device)
	if err != nil {
		return err
	}
	v.books(boots, before, after, stored)
	for _, l := range lives {
		v.missing(l)
		v.refusals(l)
	}
	return nil
}

// sample finds out which row a stored one is, and compares.
func (v *verifier) sample(lives []*life, sample *storage.Sample) {
	if sample.Layout == intruderLayout {
		v.intruder(lives[0].Device, sample)
		return
	}
	named := -1
	if sample.Layout == LayoutName && len(sample.Values) > 0 {
		if number, ours := v.plan.bootOf(sample.Values[0]); ours {
			named = number
		}
	}
	if named >= 0 && named < len(lives) && v.is(lives[named], sample) {
		v.compare(lives[named], sample)
		return
	}
	// Its first value may be wrong: whose time is it?
	for _, l := range lives {
		if v.is(l, sample) {
			v.compare(l, sample)
			return
		}
	}
	switch {
	case named < 0:
		v.verdict.OtherRuns++
	case named < len(lives) && lives[named].couldBeSent(sample.Seq):
		v.verdict.Twice++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemTwice, Device: lives[0].Device, Boot: named, Seq: sample.Seq,
			Detail: fmt.Sprintf("under %d µs, its own time is %d µs",
				sample.Time, 1000*v.plan.Time(&lives[named].Boot, sample.Seq)),
		})
	default:
		v.verdict.Unexpected++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemUnexpected, Device: lives[0].Device, Boot: named, Seq: sample.Seq,
			Detail: fmt.Sprintf("at %d µs", sample.Time),
		})
	}
}

// intruder judges a row that a bad input left: all of its readings were refused.
func (v *verifier) intruder(device string, sample *storage.Sample) {
	for i, value := range sample.Values {
		if value.Kind != wire.ValueNil {
			v.verdict.NotRefused++
			v.verdict.problem(v.limit, Problem{
				Kind: ProblemNotRefused, Device: device, Boot: -1, Seq: sample.Seq,
				Channel: intruderChannels()[i].Name, Detail: "a bad input left " + show(value),
			})
			return
		}
	}
	v.verdict.Intruders++
}

// is reports whether a stored row has the identity of that boot's row.
func (v *verifier) is(l *life, sample *storage.Sample) bool {
	return l.couldBeSent(sample.Seq) && 1000*v.plan.Time(&l.Boot, sample.Seq) == sample.Time
}

// compare judges a stored row whose identity is known.
func (v *verifier) compare(l *life, sample *storage.Sample) {
	seq := sample.Seq
	if l.found(seq) { // the primary key forbids it; so does this
		v.verdict.Twice++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemTwice, Device: l.Device, Boot: l.Number, Seq: seq, Detail: "under one time",
		})
		return
	}
	l.mark(seq)
	// A row of an earlier run has this time and number: ours was a duplicate of
	// it and changed nothing (PROTOCOL §1.2).
	if len(sample.Values) > 0 && sample.Layout == LayoutName {
		if run, _, ok := originOf(sample.Values[0]); ok && run != v.plan.Run {
			v.verdict.Taken++
			return
		}
	}
	refusal, refused := v.plan.Refusal(&l.Boot, seq)
	if refused && refusal.Channel == wire.WholeRow {
		v.verdict.NotRefused++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemNotRefused, Device: l.Device, Boot: l.Number, Seq: seq, Detail: refusal.Code.String(),
		})
		return
	}
	v.expected = v.plan.AppendStored(v.expected[:0], &l.Boot, seq)
	channel, detail := v.difference(sample)
	switch {
	case detail == "":
		v.verdict.Stored++
		if refused {
			v.verdict.RefusedValues++
		}
		if seq >= l.Acked {
			v.verdict.UnackedStored++
		}
	case refused && channel == v.channels[refusal.Channel].Name:
		v.verdict.NotRefused++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemNotRefused, Device: l.Device, Boot: l.Number, Seq: seq, Channel: channel,
			Detail: refusal.Code.String(),
		})
	default:
		v.verdict.Wrong++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemWrong, Device: l.Device, Boot: l.Number, Seq: seq, Channel: channel, Detail: detail,
		})
	}
}

// difference is the first channel in which a stored row is not what is expected.
func (v *verifier) difference(sample *storage.Sample) (channel, detail string) {
	for i := range v.expected {
		var stored wire.Value // trailing values that are not there mean no reading
		if i < len(sample.Values) {
			stored = sample.Values[i]
		}
		if !equal(v.expected[i], stored) {
			return v.channels[i].Name, fmt.Sprintf("stored %s, sent %s", show(stored), show(v.expected[i]))
		}
	}
	for _, stored := range sample.Values[min(len(v.expected), len(sample.Values)):] {
		if stored.Kind != wire.ValueNil {
			return "", "more values than channels"
		}
	}
	return "", ""
}

func equal(a, b wire.Value) bool {
	if a.Kind != b.Kind {
		return false
	}
	if a.Kind == wire.ValueText {
		return string(a.Text) == string(b.Text)
	}
	return math.Float64bits(a.Number) == math.Float64bits(b.Number)
}

func show(value wire.Value) string {
	switch value.Kind {
	case wire.ValueNil:
		return "nothing"
	case wire.ValueText:
		return fmt.Sprintf("%q", value.Text)
	case wire.ValueBool:
		return strconv.FormatBool(value.Number != 0)
	case wire.ValueNumber, wire.ValueInt, wire.ValueFloat32:
		return fmt.Sprint(value.Number)
	default:
		return fmt.Sprintf("a value of kind %d", value.Kind)
	}
}

// missing looks for acknowledged rows that were not found.
func (v *verifier) missing(l *life) {
	for seq := range l.Acked {
		if l.found(seq) {
			continue
		}
		if refusal, refused := v.plan.Refusal(&l.Boot, seq); refused && refusal.Channel == wire.WholeRow {
			v.verdict.RefusedRows++
			continue
		}
		if l.dropped(seq) || l.refused(seq) {
			continue
		}
		v.verdict.Missing++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemMissing, Device: l.Device, Boot: l.Number, Seq: seq,
			Detail: fmt.Sprintf("acknowledged, at %d µs", 1000*v.plan.Time(&l.Boot, seq)),
		})
	}
}

// refused reports whether the server refused this whole row; refusals judges
// whether it should have.
func (b *BootRecord) refused(seq uint64) bool {
	for _, reject := range b.Refused {
		if reject.Channel == wire.WholeRow && seq >= reject.Seq && seq-reject.Seq < reject.N {
			return true
		}
	}
	return false
}

// refusals judges what the server said it refused.
func (v *verifier) refusals(l *life) {
	for _, reject := range l.Refused {
		for i := range min(reject.N, 1<<16) {
			seq := reject.Seq + i
			refusal, refused := v.plan.Refusal(&l.Boot, seq)
			if refused && refusal == (Refusal{reject.Channel, reject.Code}) {
				continue
			}
			v.verdict.Refused++
			problem := Problem{
				Kind: ProblemRefused, Device: l.Device, Boot: l.Number, Seq: seq, Detail: reject.Code.String(),
			}
			if reject.Channel >= 0 && reject.Channel < len(v.channels) {
				problem.Channel = v.channels[reject.Channel].Name
			}
			v.verdict.problem(v.limit, problem)
		}
	}
}
