package api

import (
	"context"

	"oprelay/notifier"
	"oprelay/storage"
)

// checkDestination finds what the document cannot say about a new
// destination: which fields go together, and what may be sent to where.
func (s *Server) checkDestination(ctx context.Context, body NewDestination, f *faults) {
	switch body.Type {
	case DestinationWebhook:
		f.refuse(body.WebhookURL != nil, "/webhook_url", "is of a slack destination; a webhook has url")
		f.refuse(body.BotToken != nil, "/bot_token", "is of a slack destination")
		f.refuse(body.Channel != nil, "/channel", "is of a slack destination")
		f.refuse(body.URL == nil, "/url", "is required for a webhook")
		if body.Secret != nil {
			if err := notifier.CheckSecret(*body.Secret); err != nil {
				f.addf("/secret", "%s", err)
			}
		}
	case DestinationSlack:
		f.refuse(body.URL != nil, "/url", "is of a webhook destination; slack has webhook_url, or bot_token and channel")
		f.refuse(body.Headers != nil, "/headers", "is of a webhook destination")
		f.refuse(body.Secret != nil, "/secret", "is of a webhook destination")
		checkSlackForm(body, f)
	}
	s.checkURL(ctx, "/url", body.URL, f)
	s.checkURL(ctx, "/webhook_url", body.WebhookURL, f)
	checkHeaders(body.Headers, f)
}

// checkSlackForm holds a Slack destination to one of its two forms.
func checkSlackForm(body NewDestination, f *faults) {
	const either = "send either webhook_url, or bot_token and channel"
	switch {
	case body.WebhookURL != nil:
		f.refuse(body.BotToken != nil, "/bot_token", "does not go with webhook_url: "+either)
		f.refuse(body.Channel != nil, "/channel", "does not go with webhook_url: "+either)
	case body.BotToken == nil && body.Channel == nil:
		f.addf("/webhook_url", "is required, unless bot_token and channel are sent")
	default:
		f.refuse(body.BotToken == nil, "/bot_token", "is required with channel")
		f.refuse(body.Channel == nil, "/channel", "is required with bot_token")
	}
}

// checkPatch finds what does not fit the destination that is to be changed:
// its kind stays what it is.
func (s *Server) checkPatch(ctx context.Context, is storage.Destination, body DestinationPatch, f *faults) {
	webhook := is.Kind == storage.KindWebhook
	bot := !webhook && is.Bot
	f.refuse(body.URL != nil && !webhook, "/url", "is of a webhook destination; this is slack")
	f.refuse(body.Headers != nil && !webhook, "/headers", "is of a webhook destination; this is slack")
	f.refuse(body.WebhookURL != nil && (webhook || bot), "/webhook_url",
		"is of a slack destination with an incoming webhook; make a new destination to change the kind")
	f.refuse(body.BotToken != nil && !bot, "/bot_token",
		"is of a slack destination with a bot; make a new destination to change the kind")
	f.refuse(body.Channel != nil && !bot, "/channel",
		"is of a slack destination with a bot; make a new destination to change the kind")
	s.checkURL(ctx, "/url", body.URL, f)
	s.checkURL(ctx, "/webhook_url", body.WebhookURL, f)
	checkHeaders(body.Headers, f)
}

// checkURL asks whether the relay may send there. Where the document has
// found a fault already, it does not look the name up.
func (s *Server) checkURL(ctx context.Context, pointer string, raw *string, f *faults) {
	if raw == nil || f.seen[pointer] {
		return
	}
	if err := s.egress.CheckURL(ctx, *raw); err != nil {
		f.addf(pointer, "%s", err)
	}
}

func checkHeaders(headers *Headers, f *faults) {
	if headers == nil {
		return
	}
	for _, fault := range notifier.CheckHeaders(*headers) {
		f.addf(at("headers", fault.Name), "%s", fault.Detail)
	}
}

// refuse notes a fault if something is so.
func (f *faults) refuse(so bool, pointer, detail string) {
	if so {
		f.addf(pointer, "%s", detail)
	}
}
