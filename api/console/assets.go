package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
)

//go:embed static
var assetFiles embed.FS

// assets are the stylesheet, the script and the icon, by name.
type assets map[string]asset

type asset struct {
	content []byte
	version string // in its URL, which is another one for another content
}

func loadAssets() (assets, error) {
	files, err := assetFiles.ReadDir("static")
	if err != nil {
		return nil, err
	}
	all := make(assets)
	for _, file := range files {
		content, err := assetFiles.ReadFile(path.Join("static", file.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		all[file.Name()] = asset{content, hex.EncodeToString(sum[:6])}
	}
	return all, nil
}

// url is where a page finds the asset.
func (a assets) url(name string) string { return "/static/" + name + "?v=" + a[name].version }

func (c *Console) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	asset, ok := c.assets[name]
	if !ok {
		http.Error(w, "There is no such file.", http.StatusNotFound)
		return
	}
	types := map[string]string{".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
	w.Header().Set("Content-Type", types[path.Ext(name)]+"; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == asset.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(asset.content) // the browser may be gone
}
