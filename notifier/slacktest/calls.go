package slacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

const webhookChannel = "incoming-webhook"

// call is what chat.postMessage and chat.update take.
type call struct {
	Token   string          `json:"token"`
	Channel string          `json:"channel"`
	TS      string          `json:"ts"`
	Text    string          `json:"text"`
	Blocks  json.RawMessage `json:"blocks"`
}

// api answers a method of the Web API: always 200, with ok and, if that is false, an error code.
func (s *Server) api(method func(call) (Message, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, code := readCall(r)
		if code == "" {
			code = s.authorize(c.Token)
		}
		if code == "" {
			code = faultOf(c.Text, c.Blocks)
		}
		var message Message
		if code == "" {
			message, code = method(c)
		}
		if code != "" {
			writeJSON(w, http.StatusOK, map[string]any{"ok": false, "error": code})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"ok": true, "channel": message.Channel, "ts": message.TS,
			"message": map[string]any{"type": "message", "text": message.Text, "ts": message.TS, "blocks": message.Blocks},
		})
	}
}

// readCall takes a form or JSON. The token comes as a field of the form or as a bearer token.
func readCall(r *http.Request) (call, string) {
	var c call
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // "" falls through to its refusal
	switch mediaType {
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return c, "invalid_form_data"
		}
		c = call{
			Token: r.PostForm.Get("token"), Channel: r.PostForm.Get("channel"), TS: r.PostForm.Get("ts"),
			Text: r.PostForm.Get("text"),
		}
		if blocks := r.PostForm.Get("blocks"); blocks != "" {
			c.Blocks = json.RawMessage(blocks)
		}
	case "application/json":
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			return c, "invalid_json"
		}
		c.Token = "" // Slack takes no token from JSON
	default:
		return c, "invalid_post_type"
	}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		c.Token = bearer
	}
	return c, ""
}

func (s *Server) authorize(token string) string {
	switch {
	case token == "":
		return "not_authed"
	case s.opts.Token != "" && token != s.opts.Token:
		return "invalid_auth"
	}
	return ""
}

func (s *Server) post(c call) (Message, string) {
	if !s.exists(c.Channel) {
		return Message{}, "channel_not_found"
	}
	return s.add(c.Channel, Version{Text: c.Text, Blocks: c.Blocks, At: time.Now().UTC()}), ""
}

func (s *Server) update(c call) (Message, string) {
	if !s.exists(c.Channel) {
		return Message{}, "channel_not_found"
	}
	message, found := s.edit(c.Channel, c.TS, Version{Text: c.Text, Blocks: c.Blocks, At: time.Now().UTC()})
	if !found {
		return Message{}, "message_not_found"
	}
	return message, ""
}

func (s *Server) exists(channel string) bool {
	return channel != "" && (len(s.opts.Channels) == 0 || slices.Contains(s.opts.Channels, channel))
}

// webhook answers an incoming webhook: "ok", or 400 and a code as text.
func (s *Server) webhook(w http.ResponseWriter, r *http.Request) {
	var c call
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // "" falls through to its refusal
	code := "invalid_payload"
	if body, err := io.ReadAll(r.Body); err == nil && mediaType == "application/json" && json.Unmarshal(body, &c) == nil {
		code = faultOf(c.Text, c.Blocks)
	}
	w.Header().Set("Content-Type", "text/html")
	if code != "" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, code)
		return
	}
	s.add(webhookChannel, Version{Text: c.Text, Blocks: c.Blocks, At: time.Now().UTC()})
	_, _ = fmt.Fprint(w, "ok")
}
