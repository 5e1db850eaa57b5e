package main

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rsc.io/qr"
)

// photograph is a picture of a code on a terminal of these colours: each
// character is 8 by 16 points.
func photograph(text string, ink, ground color.Gray) image.Image {
	const width, height, around = 8, 16, 40
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	img := image.NewGray(image.Rect(0, 0, 100*width, (len(lines)+2)*height+2*around))
	draw.Draw(img, img.Bounds(), image.NewUniform(ground), image.Point{}, draw.Src)
	for y, line := range lines {
		ink, ground := ink, ground
		if rest, ok := strings.CutPrefix(line, "\x1b[97;40m"); ok {
			line, ink, ground = strings.TrimSuffix(rest, "\x1b[0m"), color.Gray{255}, color.Gray{0}
		}
		for x, r := range []rune(line) {
			upper := image.Rect(x*width, around+y*height, (x+1)*width, around+y*height+height/2)
			for half, full := range []string{"█▀", "█▄"} {
				c := ground
				if strings.ContainsRune(full, r) {
					c = ink
				}
				draw.Draw(img, upper.Add(image.Pt(0, half*height/2)), image.NewUniform(c), image.Point{}, draw.Src)
			}
		}
	}
	return img
}

// TestQRIsRead: a reader of codes reads what is drawn: on each terminal in
// colours, and without them on a dark one.
func TestQRIsRead(t *testing.T) {
	t.Parallel()
	reader, err := exec.LookPath("zbarimg")
	if err != nil {
		t.Skip("skip: no zbarimg")
	}
	const text = "MUSTER1ALVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCYLYBAH5WKSLPEF2W4ZLVOJSXI2DBNZSXE33OMVZGS3TBNRUXIAERMZQVVRRDAFJ4YJJ7OGMFCXKJ6M"
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	black, grey, white := color.Gray{0}, color.Gray{200}, color.Gray{255}
	for _, tt := range []struct {
		name        string
		ink, ground color.Gray
		margin      int
		colours     bool
	}{
		{"dark", grey, black, 4, true},
		{"light", black, white, 4, true},
		{"narrow and dark", grey, black, 2, true},
		{"narrow and light", black, white, 2, true},
		{"no colours", grey, black, 4, false},
		{"narrow, no colours", grey, black, 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "code.png")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, photograph(drawQR(code, tt.margin, tt.colours), tt.ink, tt.ground)); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), reader, "--quiet", "--raw", file).Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != text {
				t.Errorf("read %q: %v", got, err)
			}
		})
	}
}
